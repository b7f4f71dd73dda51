"""Keys of services and of the Secretariat are rotated while all runs, and what the old ones signed keeps its worth."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

import deploy.rotate
from deploy.local.private import write_private
from deploy.local.stack import Stack
from qalqan.certificate import verify_event
from qalqan.client import Message
from qalqan.keys import read_key
from qalqan.signing import read_material
from tests.conftest import Party

VOTERS = ("AZ", "KG", "KZ", "UZ")


def rotate(system: Stack, *arguments: str) -> Any:
    """Runs it, in this process."""
    app = typer.Typer()
    app.command()(deploy.rotate.rotate)
    return CliRunner().invoke(app, arguments, env={"QALQAN_HOME": str(system.home)}, catch_exceptions=False)


async def done(system: Stack, *arguments: str) -> str:
    """What it prints; AssertionError: what it could not do."""
    result = await asyncio.to_thread(rotate, system, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def decided(states: Party, data: dict[str, Any]) -> Message:
    """A request's decision, by the votes of all."""
    await states["TR"].settled(await states["TR"].raise_request(data))
    ballot = await states["AZ"].ballot(data["request_id"])
    for state in VOTERS:
        await states[state].vote(ballot, "approve")
    async with asyncio.timeout(20):
        async for message in states["TR"].follow(data["request_id"], from_beginning=True):
            if message.name == "ConsensusReached":
                return message
    raise AssertionError("a stream has no end")


async def restarted(system: Stack, service: str) -> None:
    """The service, in a new process that is ready."""
    process = system.processes[service]
    before = process.pid
    assert before is not None
    os.kill(before, signal.SIGTERM)
    async with asyncio.timeout(30):
        while process.pid in (before, None) or not process.ready:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.05)


async def test_a_service_and_the_secretariat_get_new_keys(
    system: Stack, states: Party, new_request: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Consensus signs with the new key, the old one is revoked, and its certificates hold; then the office's own."""
    file = system.identity.service_key("consensus")
    old = read_key(file).key_id
    before = await decided(states, new_request())
    assert read_material(before.event).key_id == old

    new = tmp_path / "consensus.pem"
    await done(system, "consensus", "--out", str(new))
    write_private(file, new.read_bytes())
    await restarted(system, "consensus")
    await done(system, "consensus", "--revoke", old)

    after = await decided(states, new_request())
    assert read_material(after.event).key_id == read_key(new).key_id
    for message in (before, after):
        assert verify_event(message.event, states["TR"].root) == []

    office = system.identity.office_key("secretariat")
    old_office, new_office = read_key(office).key_id, tmp_path / "office.pem"
    await done(system, "secretariat-office", "--out", str(new_office))
    write_private(office, new_office.read_bytes())
    await done(system, "secretariat-office", "--revoke", old_office)
    # The new one is believed: it registers a key.
    spare = tmp_path / "pledge.pem"
    assert "registered" in await done(system, "pledge", "--out", str(spare))
    assert verify_event((await decided(states, new_request())).event, states["TR"].root) == []


def test_what_cannot_be_is_said(system: Stack, tmp_path: Path) -> None:
    """A wrong name, and a key that is nobody's authority: a sentence, and no key file is left."""
    for arguments, said in (
        (("ministry", "--out", "x.pem"), "there are"),
        (("pledge",), "one of --out and --revoke"),
        (
            ("pledge", "--out", str(tmp_path / "new.pem"), "--by", str(system.identity.keys / "KZ.pem")),
            "foreign-source",
        ),
    ):
        result = rotate(system, *arguments)
        assert result.exit_code != 0
        assert said in result.output
    assert not list(tmp_path.iterdir())
