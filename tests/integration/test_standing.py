"""`GET /streams` and `GET /rejections`: how everything stands, and what was refused, for those who run the system."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import confluent_kafka
import httpx2
import psutil
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from deploy.local.ports import free_ports
from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.runinfo import RunInfo
from services.notify.standing.replica import Replica
from tests.integration.stranger import PATIENCE_S, Place, Stranger, raw
from tests.integration.test_tokens import becomes, made, shows

AT_ONCE_S = 1.0
SLACK_S = 5.0
"""What this machine may add."""


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


class Desk:
    """Somebody of the Secretariat who looks at notify."""

    def __init__(self, run: RunInfo, http: httpx2.AsyncClient) -> None:
        self._run = run
        self._http = http

    async def get(self, path: str, **parameters: str | int) -> dict[str, Any]:
        """What it answers."""
        shown = shows(self._run.token or "")
        answer = await self._http.get(f"{self._run.http['notify']}{path}", params=parameters, headers=shown)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def soon(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What `/streams` says, once something holds of it."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(found := await self.get("/streams")):  # noqa: ASYNC110 - it is asked over HTTP
                await asyncio.sleep(0.3)
        return found

    async def refused(self, place: Place, reason: str) -> dict[str, Any]:
        """What it says of a submission, once it was told of it; it may stand some pages behind the newest."""
        async with asyncio.timeout(PATIENCE_S):
            before: dict[str, int] = {}
            while True:
                page = await self.get("/rejections", reason=reason, source_topic=place.topic, limit=100, **before)
                assert {each["reason"] for each in page["items"]} <= {reason}
                numbers = [each["seq"] for each in page["items"]]
                assert numbers == sorted(numbers, reverse=True)
                for item in page["items"]:
                    if (item["partition"], item["offset"]) == (place.partition, place.offset):
                        return dict(item)
                before = {} if page["next"] is None else {"before": page["next"]}
                await asyncio.sleep(0.1)


@pytest.fixture
def desk(run: RunInfo, http: httpx2.AsyncClient) -> Desk:
    return Desk(run, http)


def service(streams: dict[str, Any], name: str) -> dict[str, Any]:
    """What it says of a service."""
    found: dict[str, Any] = next(each for each in streams["services"] if each["service"] == name)
    return found


def group(streams: dict[str, Any], name: str) -> dict[str, Any]:
    """What it says of a consumer group; nothing, where there is none."""
    return next((each for each in streams["groups"] if each["group"] == name), {})


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that takes connections and says nothing."""
    os.kill(pid, signal.SIGSTOP)
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:  # it may be in the middle of something
        time.sleep(0.01)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- streams ---


async def test_every_service_tells_of_its_lanes(desk: Desk, stranger: Stranger) -> None:
    """A line that runs meanwhile is seen: rates, effects, no lag that stays."""
    await desk.get("/streams")
    request = await stranger.raised()
    await stranger.offered(request)
    for state in ("AZ", "KG", "KZ", "UZ"):
        await stranger.voted(request, state)
    await stranger.stated("MobilizationAuthorized", request)

    def seen(now: dict[str, Any]) -> bool:
        consensus = service(now, "consensus")
        return (
            consensus["lately"].get("inbox.votes", {"count": 0})["count"] > 0
            and any(lane["rate_per_s"] > 0 for lane in consensus["lanes"])
            and all(each["lag"] == 0 for each in now["services"])
        )

    streams = await desk.soon(seen)
    assert {each["service"] for each in streams["services"]} == set(SERVICES)
    for each in streams["services"]:
        assert (each["answers"], each["ready"], each["detail"]) == (True, True, None)
        assert len(each["lanes"]) == (1 if each["service"] == "secretariat" else 12)
        assert each["memory_bytes"] > 10_000_000
        assert each["outbox_age_s"] < 5
        for effects in (each["effect"], each["lately"]):
            for effect in effects.values():
                assert effect["p50_ms"] is None or effect["p50_ms"] <= (effect["p99_ms"] or 1e9)
    assert service(streams, "consensus")["published_per_s"] > 0
    assert streams["kafka"] == {"answers": True, "detail": None, "left_out": 0}


async def test_groups_of_strangers_stand_beside_ours(desk: Desk, run: RunInfo, stranger: Stranger) -> None:
    """Members, state, offset, end and lag of each; a group that stopped reading falls behind."""
    name = f"stranger.{os.getpid()}"
    await stranger.raised()
    options: dict[str, Any] = {"group_id": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer(topics.REQUESTS.name, **run.access().options(), **options) as consumer:
        record = await asyncio.wait_for(consumer.getone(), PATIENCE_S)
        await consumer.commit()
        streams = await desk.soon(lambda now: group(now, name).get("members") == 1)
        found = group(streams, name)
        assert found["state"] == "Stable"
        place = next(each for each in found["partitions"] if each["partition"] == record.partition)
        assert place["topic"] == topics.REQUESTS.name
        assert place["lag"] == place["end"] - place["offset"]
    gone = group(await desk.soon(lambda now: group(now, name).get("members") == 0), name)
    assert gone["state"] == "Empty"
    await stranger.raised(record.partition)
    behind = group(await desk.soon(lambda now: group(now, name)["lag"] > gone["lag"]), name)
    assert behind["lag"] == sum(each["lag"] for each in behind["partitions"])
    ours = group(await desk.get("/streams"), "qalqan.consensus")
    assert (ours["state"], ours["members"]) == ("Stable", 1)


async def test_a_group_of_the_new_protocol_is_described_too(desk: Desk, run: RunInfo) -> None:
    """KIP-848, as librdkafka and Java speak it when they are told to."""
    name = f"stranger.new.{os.getpid()}"
    options = {"group.id": name, "group.protocol": "consumer", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": run.kafka, **options})
    consumer.subscribe([topics.MEMBERS.name])
    try:
        assert await asyncio.to_thread(consumer.poll, PATIENCE_S) is not None
        found = group(await desk.soon(lambda now: group(now, name).get("members") == 1), name)
        assert found["state"] == "Stable"
    finally:
        await asyncio.to_thread(consumer.close)


async def test_everybody_is_shown_one_look(desk: Desk) -> None:
    """Fifty who ask at once cost what one costs; the next look is a second later."""
    looks = await asyncio.gather(*(desk.get("/streams") for _ in range(50)))
    assert len({look["at"] for look in looks}) <= 2
    await asyncio.sleep(1.1)
    assert (await desk.get("/streams"))["at"] > max(look["at"] for look in looks)


async def test_a_frozen_service_is_shown_at_once_and_holds_up_nobody(desk: Desk, run: RunInfo) -> None:
    pid = run.pids["pledge"]
    await asyncio.sleep(AT_ONCE_S)
    with frozen(pid):
        begun = time.monotonic()
        streams = await desk.get("/streams")
        took_s = time.monotonic() - begun
    assert took_s < AT_ONCE_S + SLACK_S
    pledge = service(streams, "pledge")
    assert (pledge["answers"], pledge["ready"], pledge["lag"]) == (False, False, None)
    assert "no answer" in pledge["detail"]
    assert all(each["answers"] for each in streams["services"] if each["service"] != "pledge")
    await desk.soon(lambda now: service(now, "pledge")["ready"])


async def test_a_dead_service_is_shown() -> None:
    """Where nobody listens."""
    replica = Replica("request", f"http://127.0.0.1:{free_ports(1)[0]}")
    found = await replica.look()
    await replica.close()
    assert (found.answers, found.ready, found.lag) == (False, False, None)
    assert found.detail


# --- rejections ---


async def test_what_was_refused_is_shown_with_its_original(desk: Desk, stranger: Stranger) -> None:
    """The newest first; key, headers and value as text, U+FFFD where they are none."""
    forged = stranger.signed("RequestRaised", stranger.new_request(), key=stranger.state_key("UZ"))
    broken = raw(forged, topics.INBOX_REQUESTS).header("x-note", "ü".encode()).header("x-bytes", b"\xff\x00a")
    foreign, unreadable = await stranger.put(raw(forged, topics.INBOX_REQUESTS)), await stranger.put(broken)
    item = await desk.refused(foreign, "foreign-source")
    assert item["original"]["key"] == forged.subject
    assert item["original"]["value"] == forged.data.decode()
    assert ["ce_id", forged.id] in item["original"]["headers"]
    assert item["detail"]
    item = await desk.refused(unreadable, "bad-envelope")
    assert ["x-note", "ü"] in item["original"]["headers"]
    assert ["x-bytes", "\ufffd\0a"] in item["original"]["headers"]


async def test_pages_of_rejections_have_each_once(desk: Desk, stranger: Stranger) -> None:
    """`next` leads to the older ones until there are none."""
    record = raw(stranger.signed("RequestRaised", stranger.new_request()), topics.INBOX_REQUESTS).header("x", None)
    for place in await stranger.put_batch([record] * 5):
        await desk.refused(place, "bad-envelope")
    everything = (await desk.get("/rejections", reason="bad-envelope", limit=100))["items"][:7]
    found: list[dict[str, Any]] = []
    page = await desk.get("/rejections", reason="bad-envelope", limit=2)
    while len(found) < len(everything) and (found := [*found, *page["items"]]) and page["next"] is not None:
        assert len(page["items"]) == 2
        page = await desk.get("/rejections", reason="bad-envelope", limit=2, before=page["next"])
    assert found[: len(everything)] == everything
    assert len(everything) >= 5


async def test_what_is_too_large_has_no_original(desk: Desk, stranger: Stranger) -> None:
    """And a page of large originals ends early, with the next one behind it."""
    request = raw(stranger.signed("RequestRaised", stranger.new_request()), topics.INBOX_REQUESTS)
    large = request.header("x", None).header("x-padding", b"." * 200_000)
    await desk.refused(await stranger.put(request.header("x-padding", b"." * topics.RECORD_LIMIT_BYTES)), "too-large")
    for place in [await stranger.put(large) for _ in range(12)]:
        await stranger.rejection(place)
    too_large = (await desk.get("/rejections", reason="too-large", limit=1))["items"][0]
    assert (too_large["reason"], too_large["original"]) == ("too-large", None)
    async with asyncio.timeout(PATIENCE_S):
        query: dict[str, Any] = {"reason": "bad-envelope", "limit": 100}
        while (page := await desk.get("/rejections", **query))["next"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert 5 < len(page["items"]) < 12


# --- who may ---


async def test_these_are_for_operators_and_the_secretariat(
    system: Stack, run: RunInfo, http: httpx2.AsyncClient
) -> None:
    """403 says which role is needed; 422 for what is no reason, no inbox, no number."""
    operator, observer, integrator = [
        await made(system, role, state)
        for role, state in (("operator", "KZ"), ("observer", None), ("integrator", "HU"))
    ]
    await becomes(http, run, integrator, 200)
    for path in ("/streams", "/rejections"):
        url = run.http["notify"] + path
        assert (await http.get(url, headers=shows(operator))).status_code == 200
        assert (await http.get(url)).status_code == 401
        for token in (observer, integrator):
            answer = await http.get(url, headers=shows(token))
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
            assert "secretariat or operator" in answer.json()["detail"]
    for query in ("reason=x", "source_topic=votes", "source_topic=inboxxvotes", "before=0", "limit=101", "before=x"):
        answer = await http.get(f"{run.http['notify']}/rejections?{query}", headers=shows(operator))
        assert answer.status_code == 422, query
