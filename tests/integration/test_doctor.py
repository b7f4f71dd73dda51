"""`qalqan doctor` on the real system: nothing wrong where all is well, and each fault found for what it is."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from chassis.tokens import TokenFile, new_token
from deploy.local.doctor import database, examine, kafka, machine, trust
from deploy.local.doctor.finding import Finding
from deploy.local.doctor.system import System
from deploy.local.errors import CannotStart
from deploy.local.ports import free_ports
from deploy.local.private import write_private
from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.access import Access
from qalqan.runinfo import RunInfo
from tests.integration.commands import qalqan


@pytest.fixture
def ill(system: Stack) -> System:
    """The running system, as doctor sees it, to be spoilt."""
    return System.of(system.home)


@pytest_asyncio.fixture
async def owner(run: RunInfo) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The database's owner."""
    connection = await asyncpg.connect(run.database)
    yield connection
    await connection.close()


def wrongs(findings: list[Finding]) -> dict[str, str]:
    """What is wrong: what was seen, by what was looked at."""
    return {finding.what: finding.seen for finding in findings if finding.verdict == "wrong"}


async def test_a_system_that_is_well_has_nothing_wrong(system: Stack) -> None:
    """Exit code 0, and each part was looked at."""
    code, out, err = await qalqan(system, "doctor", "--json")
    told = json.loads(out)
    findings = [Finding(**finding) for finding in told["findings"]]
    assert (wrongs(findings), code, err) == ({}, 0, "")
    assert told["ok"] is True
    looked_at = {finding.what for finding in findings}
    assert {"Python", "disk", "runner", "Kafka", "members and keys", "tokens", "database", "outboxes"} <= looked_at
    assert {"clock of Kafka", "clock of the database", "topics", "keys"} <= looked_at
    for service in SERVICES:
        assert {f"process {service}", f"service {service}", f"lanes of {service}", f"schema {service}"} <= looked_at


async def test_a_frozen_service_is_wrong_and_what_to_do_is_said(system: Stack) -> None:
    """Exit code 1; the others are well."""
    pid = RunInfo.load(system.home / "run.json").pids["pledge"]
    os.kill(pid, signal.SIGSTOP)
    try:
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else may begin
        code, out, _ = await qalqan(system, "doctor")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 1
    assert f"kill -CONT {pid}" in out
    assert out.count("wrong") == 2, out


async def test_the_same_is_found_where_only_the_environment_says_where_things_are(
    system: Stack, run: RunInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in production, where nobody has run.json."""
    with pytest.raises(CannotStart, match="Nothing runs"):
        System.of(tmp_path)
    for name, value in {
        **system.access.environment(),
        "DATABASE_URL": run.database,
        "QALQAN_ROOT": run.root,
        "QALQAN_SERVICES": ",".join(f"{service}={address}" for service, address in run.http.items()),
    }.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    findings = await examine(System.of(tmp_path))
    assert wrongs(findings) == {}
    looked_at = {finding.what for finding in findings}
    assert {f"service {service}" for service in SERVICES} <= looked_at
    assert not any(what.startswith(("process", "runner")) for what in looked_at)


async def test_what_does_not_answer_is_said_of_each_part(ill: System) -> None:
    """Kafka, the database, every service: ports where nobody listens; the rest is looked at all the same."""
    ports = free_ports(3)
    nowhere = replace(
        ill,
        kafka=Access(bootstrap_servers=f"127.0.0.1:{ports[0]}"),
        database=f"postgresql://nobody:x@127.0.0.1:{ports[1]}/qalqan",
        services=(("consensus", f"http://127.0.0.1:{ports[2]}"),),
    )
    findings = await examine(nowhere)
    assert set(wrongs(findings)) == {
        "Kafka",
        "topics",
        "clock of Kafka",
        "members and keys",
        "database",
        "service consensus",
    }
    assert {finding.what for finding in findings if finding.verdict == "well"} >= {"Python", "tokens", "runner"}
    assert all(finding.remedy for finding in findings if finding.verdict != "well")


async def test_topics_that_are_not_what_they_must_be(ill: System) -> None:
    """Missing, with another number of partitions, with another setting: the wishes differ, Kafka is real."""
    known = topics.VOTES
    missing = replace(known, name="votes.missing")
    narrow = replace(known, partitions=known.partitions + 1)
    small = replace(topics.DECISIONS, max_message_bytes=1_000)
    found = await kafka.topic_settings(ill, [missing, narrow, small, topics.REQUESTS])
    assert wrongs(found) == {
        "topic votes.missing": "does not exist",
        f"topic {known.name}": f"{known.partitions} partitions instead of {narrow.partitions}",
        "topic decisions": f"max.message.bytes is {topics.DECISIONS.max_message_bytes}",
    }
    assert "max.message.bytes=1000" in next(finding.remedy for finding in found if "decisions" in finding.what)


async def test_a_schema_of_another_installation(ill: System, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Behind, and not there at all (of a database of its own)."""
    version = await owner.fetchval("select version_num from notify.alembic_version")
    await owner.execute("update notify.alembic_version set version_num = '0000'")
    try:
        found = await database.database(ill)
    finally:
        await owner.execute("update notify.alembic_version set version_num = $1", version)
    assert wrongs(found) == {"schema notify": f"at 0000, and this installation needs {version}"}
    elsewhere = replace(ill, database=(ill.database or "").rpartition("/")[0] + "/postgres")
    assert set(wrongs(await database.database(elsewhere))) == {f"schema {service}" for service in SERVICES}


async def test_tokens_that_end_soon_or_cannot_be_read(ill: System, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    now = datetime.now(UTC)
    made = [new_token("operator", "KZ", "night", now, now + timedelta(days=days))[1] for days in (3, 90)]
    write_private(path, TokenFile(tokens=tuple(made)).model_dump_json().encode())
    [finding] = await trust.tokens(replace(ill, tokens=path))
    assert finding.verdict == "look"
    assert made[0].token_id in finding.seen
    assert "--role operator --state KZ" in finding.remedy
    path.write_text("{")
    assert set(wrongs(await trust.tokens(replace(ill, tokens=path)))) == {"tokens"}
    [finding] = await trust.tokens(replace(ill, tokens=tmp_path / "none.json"))
    assert finding.verdict == "well"


async def test_a_runner_that_is_gone(ill: System, tmp_path: Path) -> None:
    """run.json is left, nobody holds the home; and of the processes that it names, one is gone."""
    assert ill.run is not None
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    left = replace(
        ill, home=tmp_path, run=ill.run.model_copy(update={"pids": {"pledge": ended.pid, "kafka": os.getpid()}})
    )
    assert set(wrongs(await machine.runner(left))) == {"runner"}
    assert set(wrongs(await machine.processes(left))) == {"process pledge"}
