"""What a service finds at its start, on a system of its own: a restored backup, a topic made anew, lost or widened."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from typer.testing import CliRunner

from chassis.recovery import EXIT_CODE
from deploy.local import rebuild
from deploy.local.process import with_environment
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.client import Client, Rejected
from qalqan.envelope import Event, to_http
from qalqan.events import type_of
from qalqan.keys import read_key
from qalqan.runinfo import RunInfo
from qalqan.signing import sign
from qalqan.sources import state_source
from tests.conftest import request_data
from tests.integration.stranger import PATIENCE_S
from tests.integration.test_rebuild import start, stop

TABLES = ("topic", "lane", "inbox", "outbox", "subject", "part", "parked")
SAME_LANE = [name for n in range(200) if topics.partition_of(name := f"TR-2023-R{n}") == 3]
"""Requests of one lane."""


@pytest.fixture(scope="module")
def own(ground: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system that may be ruined."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):  # whatever others use, theirs are not ours to ruin
            patch.delenv(name, raising=False)
        with Stack(tmp_path_factory.mktemp("recovery")) as running:
            yield running


@pytest_asyncio.fixture(scope="module")
async def tr(own: Stack) -> AsyncIterator[Client]:
    """The affected state."""
    async with Client.connect(RunInfo.load(own.home / "run.json"), state="TR") as client:
        yield client


@dataclass
class Backup:
    """The rows of a service's tables at some time."""

    rows: dict[str, list[tuple[Any, ...]]]

    @classmethod
    async def of(cls, system: Stack, service: str) -> "Backup":
        """As they are now."""
        connection = await asyncpg.connect(system.service_url(service))
        try:
            return cls({t: [tuple(row) for row in await connection.fetch(f"select * from {t}")] for t in TABLES})
        finally:
            await connection.close()

    async def restore(self, system: Stack, service: str) -> None:
        """Puts them back, and nothing else."""
        connection = await asyncpg.connect(system.service_url(service))
        try:
            await connection.execute(f"truncate {', '.join(TABLES)}")
            for table, rows in self.rows.items():
                await connection.copy_records_to_table(table, records=rows)
        finally:
            await connection.close()


async def refusal(system: Stack, service: str) -> str:
    """Starts a service that must not start; what it said to a person."""
    program = system._program(service, "")
    ended = await asyncio.to_thread(
        subprocess.run,
        list(program.command()),
        env=with_environment(program.environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "service.refuses" in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


async def raised(tr: Client, request_id: str) -> None:
    """A request that stands."""
    await tr.settled(await tr.raise_request(request_data(request_id)))


async def with_admin(system: Stack, *, anew: topics.Topic | None = None, wider: topics.Topic | None = None) -> None:
    """Somebody makes a topic anew, or gives it one partition more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka)
    await admin.start()
    try:
        if anew is not None:
            await admin.delete_topics([anew.name])
            while anew.name in await admin.list_topics():  # noqa: ASYNC110 nobody tells
                await asyncio.sleep(0.05)
            await admin.create_topics([NewTopic(anew.name, anew.partitions, 1, topic_configs=anew.config())])
        if wider is not None:
            await admin.create_partitions({wider.name: NewPartitions(wider.partitions + 1)})
    finally:
        await admin.close()


async def test_what_is_no_event_on_members_stops_nobody(own: Stack, tr: Client) -> None:
    """Somebody writes there who may not: services pass over it, and so do clients, at its end as before more of it."""
    async with AIOKafkaProducer(bootstrap_servers=own.kafka) as anyone:
        for value, headers in ((None, []), (b"{", [("ce_id", b"1"), ("ce_id", b"2")]), (b"", [("x", b"\xff")])):
            await anyone.send_and_wait(topics.MEMBERS.name, value, b"x", headers=headers)
    await raised(tr, "TR-2023-J1")
    async with Client.connect(RunInfo.load(own.home / "run.json"), state="TR") as other:
        await raised(other, "TR-2023-J2")
        assert other.registry.next_offset == tr.registry.next_offset


async def test_a_broker_that_is_silent_is_a_problem_over_http(own: Stack, tr: Client) -> None:
    """503 within seconds, never silence; the same submission again, once the broker answers, is taken once."""
    run = RunInfo.load(own.home / "run.json")
    key, request_id = read_key(run.key_path("TR")), "TR-2023-S1"
    event = Event(
        id="silent-1",
        source=state_source(run.network, "TR"),
        type=type_of("RequestRaised"),
        subject=request_id,
        time=None,
        datacontenttype="application/json",
        data=json.dumps(request_data(request_id)).encode(),
    )
    headers, body = to_http(sign(event, key))
    url, token = run.http["request"], {"authorization": f"Bearer {run.token}"}
    async with httpx2.AsyncClient(timeout=25) as http:
        os.kill(run.pids["kafka"], signal.SIGSTOP)
        try:
            answers = await asyncio.gather(
                http.post(f"{url}/events", headers=headers, content=body),
                http.get(f"{url}/submissions/{topics.INBOX_REQUESTS.name}/0/0", headers=token),
            )
        finally:
            os.kill(run.pids["kafka"], signal.SIGCONT)
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        again = await http.post(f"{url}/events", headers={**headers, "prefer": "wait=20"}, content=body)
    assert again.status_code == 201, again.text
    # 201 says that it is settled in the database: it may still be on its way to the topic.
    async with asyncio.timeout(PATIENCE_S), tr.follow(request_id, from_beginning=True) as feed:
        async for message in feed:
            if message.event.id == event.id:
                break
    stands = [it for it in await tr.read([topics.REQUESTS], request_id) if it.event.id == event.id]
    assert len(stands) == 1


async def test_a_restored_backup_is_refused_until_it_follows_the_topics(own: Stack, tr: Client) -> None:
    """Nothing is raised twice: what happened since the backup is known again after `qalqan rebuild`."""
    first, second, third = SAME_LANE[:3]
    await raised(tr, first)
    backup = await Backup.of(own, "request")
    await raised(tr, second)
    await stop(own, "request")
    await backup.restore(own, "request")
    said = await refusal(own, "request")
    assert said.startswith("requests holds what this database does not know")
    assert "`qalqan rebuild request`" in said
    await asyncio.to_thread(rebuild.run, own, "request")
    await start(own, "request")
    with pytest.raises(Rejected, match="duplicate-request"):
        await raised(tr, second)
    await raised(tr, third)


async def test_an_empty_database_under_full_topics_is_refused(own: Stack) -> None:
    """As after a lost disk, or a rebuild that was cut short."""
    await stop(own, "request")
    backup = await Backup.of(own, "request")
    await Backup({}).restore(own, "request")
    assert (await refusal(own, "request")).startswith("requests holds what this database does not know")
    await backup.restore(own, "request")
    await start(own, "request")


async def test_a_topic_that_lost_records_is_refused(own: Stack) -> None:
    """Its new records would be taken for old ones."""
    await stop(own, "consensus")
    backup = await Backup.of(own, "consensus")
    connection = await asyncpg.connect(own.service_url("consensus"))
    await connection.execute(
        "update lane set next_offsets = next_offsets || '{\"requests\": 4711}' where partition = 3"
    )
    await connection.close()
    assert (await refusal(own, "consensus")).startswith("requests, partition 3, ends at")
    await backup.restore(own, "consensus")
    await start(own, "consensus")


async def test_a_topic_made_anew_is_refused(own: Stack, tr: Client) -> None:
    """Also an inbox; after a rebuild the service goes on from its beginning."""
    request_id = SAME_LANE[4]
    await raised(tr, request_id)
    await stop(own, "request")
    await with_admin(own, anew=topics.INBOX_REQUESTS)
    assert (await refusal(own, "request")).startswith("inbox.requests is not the topic it was")
    owner = await asyncpg.connect(own.database_url)
    await owner.execute("drop table request.lane")  # a rebuild needs nothing of what it replaces
    await owner.close()
    await asyncio.to_thread(rebuild.run, own, "request")
    await start(own, "request")
    with pytest.raises(Rejected, match="duplicate-request"):
        await raised(tr, request_id)
    await raised(tr, SAME_LANE[5])


async def test_a_topic_with_another_number_of_partitions_is_refused(own: Stack) -> None:
    """By its writer, and by who reads it."""
    await with_admin(own, wider=topics.VOTES)
    for service in ("consensus", "notify"):
        await stop(own, service)
        assert (await refusal(own, service)).startswith("votes has 13 partitions instead of 12")


def told(arguments: Sequence[str]) -> tuple[int, str]:
    """`qalqan rebuild` with these arguments: exit code and what was said."""
    app = typer.Typer()
    app.command()(rebuild.rebuild)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.split())


def test_the_command_says_what_it_cannot_do(own: Stack) -> None:
    """A running system, an unknown service, a home without a network: a sentence each, and nothing is touched."""
    code, said = told(["request", "--home", str(own.home)])
    assert code == 1
    assert "Qalqan runs already" in said
    assert "qalqan down" in said
    code, said = told(["nobody", "--home", str(own.home)])
    assert code == 2
    code, said = told(["request", "--home", str(own.home / "elsewhere")])
    assert code == 1
    assert "no network" in said
