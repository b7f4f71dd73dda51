"""Three brokers with TLS, users and Kafka's real authorizer: who may do what, and one that dies under load."""

import asyncio
import contextlib
import os
import random
import signal
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import DescribeClientQuotasRequest

from chassis.recovery import written_by
from deploy.local import acls
from deploy.local.admin_protocol import CreateAcls
from deploy.local.doctor import examine
from deploy.local.doctor.system import System
from deploy.local.errors import CannotStart
from deploy.local.infrastructure import Infrastructure
from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.access import Access
from qalqan.client import Client
from qalqan.runinfo import READER, RunInfo
from services.consensus.handlers import ConsensusHandlers
from services.pledge.handlers import PledgeHandlers
from services.request.handlers import RequestHandlers
from services.secretariat.handlers import SecretariatHandlers
from tests.chaos.line import Line, new_id, repeated, seed_of_run
from tests.conftest import STATES, Party

PATIENCE_S = 30.0
REQUESTS = 20
_WRITES = {
    "request": {"inbox.requests", "requests", "rejections"},
    "consensus": {"inbox.votes", "votes", "decisions", "rejections"},
    "pledge": {"inbox.pledges", "pledges", "mobilizations", "rejections"},
    "secretariat": {"inbox.governance", "members", "governance", "rejections"},
    "notify": set(),
    READER: set(),
    **{state: {inbox.name for inbox in topics.INBOXES} for state in STATES},
}
"""The table of DESIGN, with the ticks of each service."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole system of our own on three brokers, also where the environment names others: one gets killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        patch.delenv("DATABASE_URL", raising=False)
        with Stack(tmp_path_factory.mktemp("three"), brokers=3) as running:
            yield running


@pytest.fixture(scope="module")
def there(three: Stack) -> RunInfo:
    """Its run.json, as anybody reads it."""
    return RunInfo.load(three.home / "run.json")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def party(there: RunInfo) -> AsyncIterator[Party]:
    """A client for each state, as which Kafka knows it."""
    async with contextlib.AsyncExitStack() as stack:
        yield {state: await stack.enter_async_context(Client.connect(there, state=state)) for state in STATES}


@contextlib.asynccontextmanager
async def admin_of(access: Access) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client as somebody."""
    admin = AIOKafkaAdminClient(**access.options())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def refused_writes(access: Access, to: set[str]) -> set[str]:
    """Those of these topics whose write Kafka's authorizer refuses; what it takes is rubbish."""
    refused = set()
    async with AIOKafkaProducer(acks="all", **access.options()) as producer:
        for topic in to:
            try:
                await producer.send_and_wait(topic, b"rubbish", b"key")
            except TopicAuthorizationFailedError:
                refused.add(topic)
    return refused


async def test_a_state_writes_to_inboxes_and_nowhere_else(there: RunInfo) -> None:
    everything = {*topics.BY_NAME, "__consumer_offsets", "inbox.other"}
    assert await refused_writes(there.access("KZ"), everything) == everything - _WRITES["KZ"]


async def test_a_state_reads_what_is_public_and_no_inbox_and_no_group_of_others(there: RunInfo) -> None:
    async def read(topic: str, group: str | None = None) -> None:
        options: dict[str, Any] = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "group_id": group}
        consumer = AIOKafkaConsumer(topic, **options, **there.access("KZ").options())
        try:
            await consumer.start()
            await asyncio.wait_for(consumer.getone(), PATIENCE_S)
        finally:
            await consumer.stop()

    for topic in topics.INBOXES:
        with pytest.raises(TopicAuthorizationFailedError):
            await read(topic.name)
    await read(topics.MEMBERS.name)
    await read(topics.MEMBERS.name, group="KZ.watch")
    for group in ("qalqan.consensus", "UZ.watch"):
        with pytest.raises(GroupAuthorizationFailedError):
            await read(topics.MEMBERS.name, group)


@pytest.mark.parametrize("user", ["KZ", "consensus", READER])
async def test_nobody_makes_changes_or_deletes_a_topic_a_record_a_user_or_a_rule(
    there: RunInfo, three: Stack, user: str
) -> None:
    access = three.access_of(user)
    inbox, public = topics.INBOX_VOTES.name, topics.DECISIONS.name
    async with admin_of(access) as admin:
        made = await admin.create_topics([NewTopic("inbox.mine", 1, 3), NewTopic("mine", 1, 3)])
        deleted = await admin.delete_topics([inbox, public])
        altered = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "1"}) for name in (inbox, public)]
        )
        codes = [
            *(code for _, code, *_ in made.topic_errors),
            *(code for _, code in deleted.topic_error_codes),
            *(code for answer in altered for code, *_ in answer.resources),
        ]
        assert [for_code(code) for code in codes] == [TopicAuthorizationFailedError] * 6
        for name in (inbox, public):
            with pytest.raises(TopicAuthorizationFailedError):
                await admin.create_partitions({name: NewPartitions(24)})
        with pytest.raises(TopicAuthorizationFailedError):
            await admin.delete_records({TopicPartition(public, 0): RecordsToDelete(1)})
    with pytest.raises(CannotStart, match="ClusterAuthorizationFailedError"):
        await acls.establish(access, {user: "new"})
    async with admin_of(three.access) as admin:
        assert set(await admin.list_topics()) >= {*topics.BY_NAME}
        assert "inbox.mine" not in await admin.list_topics()


@pytest.mark.parametrize("service", [*SERVICES, READER])
async def test_a_service_writes_what_it_owns_and_nowhere_else(three: Stack, service: str) -> None:
    # What it does write is what the whole line of the last test stands on.
    others = set(topics.BY_NAME) - _WRITES[service]
    assert await refused_writes(three.access_of(service), others) == others


async def test_notify_alone_is_told_how_far_everybody_is(three: Stack, there: RunInfo) -> None:
    """`GET /streams` shows all groups, a state's own too; other services see none but theirs, and nobody reads more."""
    options: dict[str, Any] = {"group_id": "KZ.watched", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer(topics.MEMBERS.name, **options, **there.access("KZ").options()) as consumer:
        await asyncio.wait_for(consumer.getone(), PATIENCE_S)
        await consumer.commit()
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        shown = {"authorization": f"Bearer {there.token}"}
        url = f"{there.http['notify']}/streams"
        async with asyncio.timeout(PATIENCE_S):  # three handshakes take their time
            while not (streams := (await http.get(url, headers=shown)).json())["groups"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    lags = {group["group"]: group["lag"] for group in streams["groups"]}
    assert {f"qalqan.{service}" for service in SERVICES} <= set(lags)
    assert lags["KZ.watched"] > 0
    async with admin_of(three.access_of("consensus")) as admin:
        assert {group for group, _ in await admin.list_consumer_groups()} == {"qalqan.consensus"}
    consumer = AIOKafkaConsumer(
        topics.INBOX_VOTES.name, **options | {"group_id": None}, **three.access_of("notify").options()
    )
    try:
        await consumer.start()
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(consumer.getone(), PATIENCE_S)
    finally:
        await consumer.stop()


async def test_doctor_finds_nothing_wrong(three: Stack) -> None:
    """Three brokers, every topic's replicas and settings, asked as the user of notify."""
    await until_whole(three)
    findings = await examine(System.of(three.home))
    assert [finding for finding in findings if finding.verdict == "wrong"] == []
    seen = {finding.what: finding.seen for finding in findings}
    assert seen["Kafka"].startswith("3 brokers")
    assert "partitions and settings" in seen["topics"]


def test_the_rules_are_those_of_the_design_and_of_the_handlers() -> None:
    written: dict[str, set[str]] = {user: set() for user in acls.USERS}
    for rule in acls.rules():
        user = rule.principal.removeprefix("User:")
        if (rule.resource, rule.operation) == (acls.Resource.TOPIC, acls.Operation.WRITE):
            written[user].add(rule.name)
    assert written == _WRITES
    for handlers in (RequestHandlers, PledgeHandlers, ConsensusHandlers, SecretariatHandlers):
        service = handlers.__module__.split(".")[1]
        assert {topic.name for topic in (handlers.inbox, *written_by(service, handlers.inbox))} <= written[service]
        for topic in (handlers.inbox, *handlers.follows, topics.MEMBERS):
            assert acls.allowed(service, acls.Operation.READ, acls.Resource.TOPIC, topic.name) in acls.rules()


async def test_who_does_not_show_who_he_is_is_refused(there: RunInfo, three: Stack) -> None:
    known = there.access("KZ")
    inner = three.access.bootstrap_servers
    strangers = {
        "nothing at all": Access(bootstrap_servers=there.kafka),
        "no user": known.model_copy(update={"security_protocol": "SSL"}),
        "no TLS": known.model_copy(update={"security_protocol": "SASL_PLAINTEXT"}),
        "a wrong password": known.model_copy(update={"sasl_password": "wrong"}),
        "another's password": known.model_copy(update={"sasl_username": "KG"}),
        "an unknown user": known.model_copy(update={"sasl_username": "XX"}),
        "another mechanism": known.model_copy(update={"sasl_mechanism": "PLAIN"}),
        "no certificate, at the brokers' own door": Access(
            bootstrap_servers=inner, security_protocol="SSL", ssl_cafile=known.ssl_cafile
        ),
        "a password, at the brokers' own door": known.model_copy(update={"bootstrap_servers": inner}),
    }

    async def refused(access: Access) -> bool:
        producer = AIOKafkaProducer(**access.options(), request_timeout_ms=3_000)
        try:
            await producer.start()
        except (KafkaConnectionError, AuthenticationFailedError):
            return True
        finally:
            await producer.stop()
        return False

    answers = await asyncio.gather(*(refused(access) for access in strangers.values()))
    assert dict(zip(strangers, answers, strict=True)) == dict.fromkeys(strangers, True)
    assert not await refused(known)


async def test_a_client_does_not_speak_to_a_broker_of_another_authority(there: RunInfo) -> None:
    host, port = there.kafka.split(",")[0].split(":")
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(host, int(port), ssl=ssl.create_default_context())


async def test_each_state_has_its_quota_and_no_service_has_one(three: Stack) -> None:
    async with admin_of(three.access) as admin:
        everyone = DescribeClientQuotasRequest([("user", 2, None)], strict=False)  # 2: any user that has one
        answer = await admin._client.send(1, everyone)
    assert {entity[0][1]: dict(values) for entity, values in answer.entries} == dict.fromkeys(
        (*STATES, READER), acls.QUOTAS
    )


async def test_a_rule_that_is_not_ours_is_taken_away_at_the_next_start(three: Stack) -> None:
    public = topics.DECISIONS.name
    rule = acls.allowed("KZ", acls.Operation.WRITE, acls.Resource.TOPIC, public)
    async with admin_of(three.access) as admin:
        await admin._client.send(1, CreateAcls([astuple(rule)]))
    await acls.establish(three.access, {})
    assert await refused_writes(three.access_of("KZ"), {public}) == {public}


@pytest.mark.parametrize(
    ("made", "brokers", "environment", "why"),
    [
        (None, 2, {}, "1 broker or 3, not 2"),
        ("kafka", 3, {}, "--brokers 1 and stays so"),
        ("kafka-1", 1, {}, "--brokers 3 and stays so"),
        (None, 3, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "leave out --brokers"),
        (None, None, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_SECURITY_PROTOCOL": "TLS"}, "security_protocol"),
        (
            None,
            None,
            {
                "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
                "KAFKA_SECURITY_PROTOCOL": "SSL",
                "KAFKA_SSL_CAFILE": "/nowhere",
            },
            "look at /nowhere",
        ),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: str | None,
    brokers: int | None,
    environment: dict[str, str],
    why: str,
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if made:
        (tmp_path / made / "data").mkdir(parents=True)
    with pytest.raises(CannotStart, match=why), Infrastructure(tmp_path, brokers=brokers):
        pass


def test_what_is_secret_is_its_owners_alone(three: Stack) -> None:
    files = [*three.passwords.iterdir(), *(three.home / "tls").iterdir(), three.home / "secrets.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {file.name for file in three.passwords.iterdir()} == {*STATES, READER}


async def replicas_in_sync(three: Stack) -> set[tuple[int, int]]:
    """Over all partitions, Kafka's own topics included: how many replicas, and how many of them are in sync."""
    async with admin_of(three.access) as admin:
        described = await admin.describe_topics()
    return {(len(part["replicas"]), len(part["isr"])) for topic in described for part in topic["partitions"]}


async def until_whole(three: Stack) -> None:
    """Returns when each partition has its three replicas in sync."""
    async with asyncio.timeout(PATIENCE_S):
        while await replicas_in_sync(three) != {(3, 3)}:  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(0.2)


async def test_two_of_three_must_have_what_is_acknowledged(three: Stack) -> None:
    await until_whole(three)
    async with admin_of(three.access) as admin:
        names = await admin.list_topics()
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await admin.describe_configs(resources)
    found = {
        resource[3]: {name: value for name, value, *_ in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    assert {"__consumer_offsets", *topics.BY_NAME} <= set(found)
    assert {config["min.insync.replicas"] for config in found.values()} == {"2"}
    assert {config["unclean.leader.election.enable"] for config in found.values()} == {"false"}


async def test_a_broker_killed_under_load_loses_nothing_and_comes_back(three: Stack, party: Party) -> None:
    """All requests come to their mobilisation; what was acknowledged is exactly once on a public topic or rejected."""
    await until_whole(three)
    chance = random.Random(seed_of_run())
    line = Line(party, chance)
    broker = three.processes[chance.choice(["kafka-1", "kafka-2", "kafka-3"])]

    async def kill() -> float:
        await asyncio.sleep(chance.uniform(1.5, 3.0))
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        return time.monotonic()

    async with line.watching():
        killing = asyncio.create_task(kill())
        await line.run_all([new_id() for _ in range(REQUESTS)], 60.0, over_s=5.0)
        await killing
    messages = await line.check()
    await until_whole(three)
    assert broker.restarts == 1
    assert broker.ready
    print(f"{broker.program.name}; {len(line.acknowledged)} submissions, {repeated(messages)} deliveries repeated")
