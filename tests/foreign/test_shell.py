"""A national system that has a shell, openssl and curl."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from qalqan.runinfo import RunInfo
from tests.conftest import Party, pledge_data, request_data

CLIENT = Path(__file__).parent / "shell" / "client.sh"

pytestmark = [
    pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not on this machine")
    for tool in ("curl", "openssl")
]


def submit(run: Path, key: str, state: str, owner: str, event: str, data: dict[str, Any], folder: Path) -> Any:
    """Exit code and printed JSON of the script."""
    file = folder / "data.json"
    file.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    key_file = Path(RunInfo.load(run).keys) / f"{key}.pem"
    done = subprocess.run(
        ["sh", CLIENT, run, key_file, state, owner, event, data["request_id"], file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_it_pledges_and_is_answered(system: Stack, states: Party, tmp_path: Path) -> None:
    """AZ's offer stands on `pledges` as the file had it; the same under KZ's key is `foreign-source`."""
    run = system.home / "run.json"
    request = request_data(f"TR-2023-sh-{os.getpid()}")
    await states["TR"].settled(await states["TR"].raise_request(request))
    offer = pledge_data(request["request_id"])

    code, stands = submit(run, "AZ", "AZ", "pledge", "PledgeOffered", offer, tmp_path)
    assert (code, stands["type"]) == (0, "qalqan.PledgeOffered.v1"), stands
    assert base64.b64decode(stands["data_base64"]) == (tmp_path / "data.json").read_bytes()

    code, problem = submit(run, "KZ", "AZ", "pledge", "PledgeOffered", offer, tmp_path)
    assert (code, problem["reason"]) == (1, "foreign-source")

    # Signed well and taken by the door, but not by the domain: the answer comes on `rejections`.
    code, rejection = submit(run, "AZ", "AZ", "pledge", "PledgeOffered", offer, tmp_path)
    assert (code, rejection["type"]) == (1, "qalqan.SubmissionRejected.v1")
    assert json.loads(base64.b64decode(rejection["data_base64"]))["reason"] == "not-allowed"
