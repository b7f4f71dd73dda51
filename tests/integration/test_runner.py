"""The embedded runner: jars that are what the lock says, processes that come back with their data, walls
between schemas."""

import asyncio
import hashlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from chassis import recovery
from deploy.local import roles
from deploy.local.errors import CannotStart
from deploy.local.infrastructure import Infrastructure
from deploy.local.jars import kafka_jars, read_lock
from deploy.local.keys import STATES, identity
from deploy.local.lock import holder
from deploy.local.ports import free_ports
from deploy.local.private import secret
from deploy.local.process import REFUSES, Program, Supervised
from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.registry import Registry, Root

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infrastructure]:
    """A broker and a database of our own, embedded also where the environment names others: these get
    killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        patch.delenv("DATABASE_URL", raising=False)
        with Infrastructure(tmp_path_factory.mktemp("home")) as running:
            yield running


def kill(process: Supervised) -> None:
    """kill -9, and wait until another process has taken over and answers."""
    old = process.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while process.pid in (old, None) or not process.ready:
        assert time.monotonic() < deadline, f"{process.program.name} does not come back"
        time.sleep(0.02)


def test_a_jar_that_differs_from_the_lock_is_refused_by_name(tmp_path: Path) -> None:
    jar = tmp_path / "kafka" / "one-1.0.jar"
    jar.parent.mkdir()
    jar.write_bytes(b"as released")
    lock = tmp_path / "lock"
    lock.write_text(f"# a comment\norg.example:one:1.0 {jar.name} 11 {hashlib.sha256(b'as released').hexdigest()}\n")
    assert kafka_jars(tmp_path, lock) == [jar]

    jar.write_bytes(b"as changed!")
    with pytest.raises(CannotStart, match=r"one-1\.0\.jar is refused: org\.example:one:1\.0 has the SHA-256"):
        kafka_jars(tmp_path, lock)


def test_the_lock_names_the_whole_broker() -> None:
    jars = read_lock()
    assert "org.apache.kafka:kafka_2.13:4.3.1" in {jar.coordinate for jar in jars}
    assert len({jar.file for jar in jars}) == len(jars) == 46
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


def test_all_topics_are_there_with_their_partitions(infra: Infrastructure) -> None:
    async def partitions() -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=infra.kafka)
        await admin.start()
        try:
            described = await admin.describe_topics([topic.name for topic in topics.ALL])
            return {topic["topic"]: len(topic["partitions"]) for topic in described}
        finally:
            await admin.close()

    assert asyncio.run(partitions()) == {topic.name: topic.partitions for topic in topics.ALL}


def test_a_killed_broker_comes_back_on_its_port_with_its_data(infra: Infrastructure) -> None:
    partition = TopicPartition(topics.REQUESTS.name, 3)

    async def write() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=infra.kafka, acks="all")
        await producer.start()
        try:
            return int((await producer.send_and_wait(partition.topic, b"kept", b"key", partition=3)).offset)
        finally:
            await producer.stop()

    async def read(offset: int) -> bytes:
        consumer = AIOKafkaConsumer(bootstrap_servers=infra.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([partition])
            consumer.seek(partition, offset)
            record = await asyncio.wait_for(consumer.getone(), PATIENCE_S)
            assert record.timestamp_type == 1  # LogAppendTime: time is the log's
            return bytes(record.value or b"")
        finally:
            await consumer.stop()

    offset = asyncio.run(write())
    kill(infra.processes["kafka"])
    assert asyncio.run(read(offset)) == b"kept"


def test_a_killed_database_comes_back_with_what_was_committed(infra: Infrastructure) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(infra.database_url)
        await connection.execute("create table kept (word text); insert into kept values ('kept')")
        await connection.close()

    async def read() -> str:
        connection = await asyncpg.connect(infra.database_url)
        try:
            word: str = await connection.fetchval("select word from kept")
            return word
        finally:
            await connection.close()

    asyncio.run(write())
    kill(infra.processes["postgres"])
    assert asyncio.run(read()) == "kept"


def test_another_services_schema_answers_permission_denied(infra: Infrastructure) -> None:
    async def trespass() -> None:
        owner = await asyncpg.connect(infra.database_url)
        await owner.execute(
            "create table consensus.secret_ballot (vote text); create table request.own (word text);"
            "grant select, insert on request.own to qalqan_request"
        )
        await owner.close()
        request = await asyncpg.connect(infra.service_url("request"))
        try:
            # Names without a schema are looked up in its own.
            await request.execute("insert into own values ('mine')")
            assert await request.fetchval("select word from request.own") == "mine"
            for statement in (
                "select * from consensus.secret_ballot",
                "insert into consensus.secret_ballot values ('object')",
                "create table consensus.intruder ()",
                "create table public.intruder ()",
                "create table intruder ()",
                "alter table own add column more text",
                "set role qalqan_consensus",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await request.execute(statement)
        finally:
            await request.close()

    asyncio.run(trespass())


def test_a_role_needs_its_password(infra: Infrastructure) -> None:
    async def guess() -> None:
        await asyncpg.connect(infra.service_url("request"), password="guess")

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(guess())


def test_brokers_and_databases_of_others_are_used_where_the_environment_names_them(
    infra: Infrastructure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", infra.kafka)
    monkeypatch.setenv("DATABASE_URL", infra.database_url)
    with Infrastructure(tmp_path) as guest:
        assert (guest.processes, guest.kafka, guest.database_url) == ({}, infra.kafka, infra.database_url)

        async def who() -> str:
            connection = await asyncpg.connect(guest.service_url("notify"))
            name: str = await connection.fetchval("select current_user || ' in ' || current_schema()")
            await connection.close()
            return name

        assert asyncio.run(who()) == "qalqan_notify in notify"
    # The guest has set passwords of its own.
    asyncio.run(roles.prepare(infra.database_url, {name: secret(infra.home, f"database.{name}") for name in SERVICES}))


@pytest.mark.parametrize("variable", ["KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"])
@pytest.mark.parametrize("place", ["127.0.0.1:9", "localhost:no-port"])
def test_a_place_where_nothing_answers_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, infra: Infrastructure, variable: str, place: str
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", infra.kafka)
    monkeypatch.setenv("DATABASE_URL", infra.database_url)
    monkeypatch.setenv(variable, place if variable.startswith("KAFKA") else f"postgresql://who:secret@{place}/any")
    with pytest.raises(CannotStart, match=rf"{place}.*{variable}") as refusal, Infrastructure(tmp_path):
        pass
    assert "secret" not in str(refusal.value)
    if variable.startswith("KAFKA"):  # the database's walls now have this home's passwords
        passwords = {name: secret(infra.home, f"database.{name}") for name in SERVICES}
        asyncio.run(roles.prepare(infra.database_url, passwords))


def test_one_home_has_one_runner(infra: Infrastructure) -> None:
    assert holder(infra.home) == os.getpid()
    run = infra.home / "run.json"
    run.write_text("{}")  # as a whole system's runner has written it
    with pytest.raises(CannotStart, match="runs already"), Stack(infra.home):
        pass
    assert run.exists()


def test_a_process_that_dies_is_started_again_at_once_and_one_that_keeps_dying_waits(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    starts: list[float] = []

    def command() -> list[str]:
        starts.append(time.monotonic())
        return [sys.executable, "-c", "print('no such thing')"]

    process = Supervised(Program("brief", command, answers=lambda: port < 0, log=tmp_path / "brief.log"))
    process.start()
    with pytest.raises(CannotStart, match='brief does not start: its last words were "no such thing"'):
        process.wait_ready()
    process.stop()
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses[0] < 0.4 <= pauses[3]


def test_one_that_refuses_to_start_is_not_waited_for(tmp_path: Path) -> None:
    """A service whose database and topics do not belong together says so and what to do: that is told at once."""
    command = partial(list[str], [sys.executable, "-c", f"print('rebuild it'); raise SystemExit({recovery.EXIT_CODE})"])
    program = Program("stubborn", command, answers=lambda: False, log=tmp_path / "stubborn.log", patience_s=3600)
    process = Supervised(program)
    process.start()
    try:
        with pytest.raises(CannotStart, match='stubborn refuses to start: its last words were "rebuild it"'):
            process.wait_ready()
    finally:
        process.stop()
    assert recovery.EXIT_CODE == REFUSES


def test_a_process_that_never_answers_is_killed_and_started_again(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    program = Program("mute", lambda: command, lambda: port < 0, tmp_path / "mute.log", hopeless_after_s=0.3)
    process = Supervised(program)
    process.start()
    deadline = time.monotonic() + PATIENCE_S
    while process.restarts < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.exit_code == -signal.SIGKILL
    process.stop()


def test_development_keys_are_private_and_their_registrations_hold(tmp_path: Path) -> None:
    made = identity(tmp_path)
    assert identity(tmp_path).genesis() == made.genesis()  # made once
    for file in made.keys.rglob("*.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert {path.stem for path in made.keys.glob("*.pem")} == set(STATES)

    registry = Registry(Root.load(made.root))
    for event in made.genesis():
        registry.apply(event)
    assert registry.roll(datetime.now(UTC)) == ["AZ", "KG", "KZ", "TR", "UZ"]
    assert json.loads(made.root.read_bytes())["network"] == made.network
