"""A key comes into the register and leaves it by the command line, as the Secretariat would do it."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from qalqan.client import Client, Rejected
from qalqan.enrolment import Registrar, claim
from qalqan.keys import read_key
from qalqan.registry import Root
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key
from qalqan.sources import state_source
from tests.integration.commands import qalqan


async def test_a_key_is_made_claimed_registered_and_revoked(
    system: Stack, run: RunInfo, tmp_path: Path, new_request: Callable[..., dict[str, Any]]
) -> None:
    """It signs what it was registered for, nothing else, and nothing any more once it was revoked."""
    file, claimed = tmp_path / "tr.pem", tmp_path / "claim.json"
    assert (await qalqan(system, "keys", "new", "TR", "--out", file))[0] == 0
    code, printed, _ = await qalqan(system, "keys", "claim", file, "--as", "TR")
    assert code == 0
    claimed.write_text(printed)
    code, said, err = await qalqan(system, "keys", "register", claimed, "--scopes", "request")
    assert (code, err) == (0, "")
    assert said.startswith("registered: members/0, serial ")
    code, _, err = await qalqan(system, "keys", "register", claimed, "--scopes", "request")
    assert code == 1
    assert "is registered already" in err

    source = state_source(run.network, "TR")
    async with Client(run.kafka, root=Root.load(run.root), key=read_key(file), source=source) as tr:
        data = new_request()
        await tr.settled(await tr.raise_request(data))
        with pytest.raises(Rejected, match="key-scope"):
            await tr.settled(await tr.accept(data["request_id"], "AZ-1", 1))
        revoked = await qalqan(
            system, "keys", "revoke", json.loads(printed)["key_id"], "--reason", "the device was lost"
        )
        assert revoked[0] == 0
        with pytest.raises(Rejected, match="key-not-valid"):
            await tr.settled(await tr.close(data["request_id"], "no more"))


async def test_the_chain_goes_on_whoever_else_goes_on_with_it(run: RunInfo, system: Stack) -> None:
    """Four at once, each from where it believes the chain to stand: all are registered."""
    office = read_key(Path(run.keys) / "offices" / "secretariat.pem")
    now = datetime.now(UTC).replace(microsecond=0)
    async with Client.connect(run) as client:
        registrar = Registrar(client, run.http["secretariat"], office)
        claims = [claim(run.network, "HU", Ed25519Key.generate()) for _ in range(4)]
        said = await asyncio.gather(*(registrar.register(each, ["pledge"], now, None) for each in claims))
    assert len(set(said)) == 4
