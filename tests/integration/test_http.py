"""HTTP in and out: submissions, and the live stream (CONTRACT "Submissions", "The runner")."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from deploy.local.stack import Stack
from qalqan import topics
from qalqan.envelope import Event, to_http, to_structured
from qalqan.instants import format_instant, parse_instant
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key
from qalqan.topics import Topic, partition_of
from tests import sse
from tests.conftest import pledge_data
from tests.integration.stranger import OWNERS, PATIENCE_S, Stranger

Make = Callable[[Stranger], Awaitable[Event]]
Body = tuple[dict[str, str], bytes]


@pytest_asyncio.fixture(scope="module")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client that waits for a while, but not for ever."""
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


# --- submissions ---


def binary(event: Event) -> Body:
    """Headers and body in binary mode."""
    return to_http(event)


def structured(event: Event) -> Body:
    """Headers and body in structured mode."""
    return {"content-type": "application/cloudevents+json"}, json.dumps(to_structured(event)).encode()


async def a_request(s: Stranger) -> Event:
    return s.signed("RequestRaised", s.new_request())


async def a_pledge(s: Stranger) -> Event:
    return s.signed("PledgeOffered", pledge_data(await s.raised()), "AZ")


async def a_vote(s: Stranger) -> Event:
    return s.signed("VoteCast", await s.vote_data(await s.raised()), "KZ")


async def a_key(s: Stranger) -> Event:
    return await s.registration("KZ", ["vote"], Ed25519Key.generate())


SUBMISSIONS: list[tuple[Topic, Make]] = [
    (topics.INBOX_REQUESTS, a_request),
    (topics.INBOX_PLEDGES, a_pledge),
    (topics.INBOX_VOTES, a_vote),
    (topics.INBOX_GOVERNANCE, a_key),
]
each_owner = pytest.mark.parametrize(("inbox", "make"), SUBMISSIONS, ids=[topic.name for topic, _ in SUBMISSIONS])
each_mode = pytest.mark.parametrize("spell", [binary, structured])


def events_of(stranger: Stranger, inbox: Topic) -> str:
    """Where an inbox's owner takes submissions."""
    return f"{stranger.run.http[OWNERS[inbox.name]]}/events"


@each_owner
@each_mode
async def test_a_submission_is_taken_and_admitted(
    stranger: Stranger, http: httpx2.AsyncClient, inbox: Topic, make: Make, spell: Callable[[Event], Body]
) -> None:
    """202 with where the broker has it; then it stands on its public topic, as signed."""
    event = await make(stranger)
    before = await stranger.ends(inbox)
    headers, body = spell(event)
    answer = await http.post(events_of(stranger, inbox), headers=headers, content=body)

    assert answer.status_code == 202, answer.text
    (written,) = await stranger.written_since(before)
    assert answer.headers["location"] == f"/submissions/{inbox.name}/{written.partition}/{written.offset}"
    assert written.partition == partition_of(str(event.subject), inbox.partitions)
    admitted = await stranger.watch.first(lambda it: (it.event.source, it.event.id) == (event.source, event.id))
    assert replace(admitted.event, extensions={}) == replace(event, extensions={})


@each_owner
@each_mode
async def test_validate_only_writes_nothing(
    stranger: Stranger, http: httpx2.AsyncClient, inbox: Topic, make: Make, spell: Callable[[Event], Body]
) -> None:
    """All checks, and no more."""
    event = await make(stranger)
    before = await stranger.ends(inbox)
    headers, body = spell(event)
    url = f"{events_of(stranger, inbox)}?validate=only"
    good = await http.post(url, headers=headers, content=body)
    bad = await http.post(url, headers=headers, content=body[:-1])

    assert good.is_success, good.text
    assert "location" not in good.headers
    assert bad.status_code == 422
    assert await stranger.written_since(before) == []


@each_owner
async def test_a_body_that_is_cut_short_is_no_fault_of_the_service(
    system: Stack, stranger: Stranger, http: httpx2.AsyncClient, inbox: Topic, make: Make
) -> None:
    """Whoever hangs up in the middle leaves nothing behind: no submission, and no stack trace in the log."""
    service = OWNERS[inbox.name]
    log = system.home / "logs" / f"{service}.log"
    before, said = await stranger.ends(inbox), log.stat().st_size
    url = httpx2.URL(stranger.run.http[service])
    head = "POST /events HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    for _ in range(3):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head.encode() + b'{"half":')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    headers, body = to_http(await make(stranger))
    assert (await http.post(f"{events_of(stranger, inbox)}?validate=only", headers=headers, content=body)).is_success

    assert await stranger.written_since(before) == []
    assert b"Traceback" not in log.read_bytes()[said:]


@dataclass(frozen=True, slots=True)
class Problem:
    """A bad submission and the reason it must be refused for."""

    reason: str
    make: Callable[[Stranger], Event]

    def __str__(self) -> str:
        return f"{self.reason}: {self.make.__name__.replace('_', ' ')}"


def request(s: Stranger, key: Ed25519Key | None = None, **attributes: Any) -> Event:
    """A good RequestRaised, but for what is given."""
    return s.signed("RequestRaised", s.new_request(), key=key, **attributes)


def without_a_signature(s: Stranger) -> Event:
    return replace(request(s), dssematerial=None)


def of_another_network(s: Stranger) -> Event:
    return request(s, source="qalqan://dev-none/states/TR")


def for_another_service(s: Stranger) -> Event:
    return s.signed("PledgeOffered", pledge_data("TR-2023-0001"), "AZ")


def under_another_key(s: Stranger) -> Event:
    return request(s, extensions={"partitionkey": "TR-2023-other"})


def by_nobody(s: Stranger) -> Event:
    return request(s, Ed25519Key.generate())


def by_somebody_else(s: Stranger) -> Event:
    return request(s, s.state_key("AZ"))


def changed_after_signing(s: Stranger) -> Event:
    return replace(request(s), id="another")


def by_a_service(s: Stranger) -> Event:
    return request(s, s.service_key("request"), source=f"qalqan://{s.network}/services/request")


def without_a_need(s: Stranger) -> Event:
    return s.signed("RequestRaised", {**s.new_request(), "needs": []})


def with_brackets(s: Stranger) -> Event:
    return s.signed("RequestRaised", b"[" * 50_000, subject=s.new_request()["request_id"])


def past_the_limit(s: Stranger) -> Event:
    return s.signed("RequestRaised", {**s.new_request(), "text": "." * topics.RECORD_LIMIT_BYTES})


def far_past_the_limit(s: Stranger) -> Event:
    return s.signed("RequestRaised", {**s.new_request(), "text": "." * 4 * topics.RECORD_LIMIT_BYTES})


PROBLEMS = [
    Problem("bad-envelope", without_a_signature),
    Problem("wrong-network", of_another_network),
    Problem("wrong-type", for_another_service),
    Problem("key-mismatch", under_another_key),
    Problem("unknown-key", by_nobody),
    Problem("foreign-source", by_somebody_else),
    Problem("bad-signature", changed_after_signing),
    Problem("key-scope", by_a_service),
    Problem("bad-data", without_a_need),
    Problem("bad-data", with_brackets),
    Problem("too-large", past_the_limit),
    Problem("too-large", far_past_the_limit),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@each_mode
async def test_a_problem_is_answered_at_once_and_never_written(
    stranger: Stranger, http: httpx2.AsyncClient, problem: Problem, spell: Callable[[Event], Body]
) -> None:
    """RFC 9457, with the contract's reason; Kafka sees nothing of it."""
    before = await stranger.ends(topics.INBOX_REQUESTS)
    headers, body = spell(problem.make(stranger))
    answer = await http.post(events_of(stranger, topics.INBOX_REQUESTS), headers=headers, content=body)

    _check_problem(answer, 413 if problem.reason == "too-large" else 422)
    assert answer.json()["reason"] == problem.reason, answer.text
    assert await stranger.written_since(before) == []


MANGLED: dict[str, tuple[Callable[[list[tuple[str, str]]], list[tuple[str, str]]], bytes | None]] = {
    "no content-type": (lambda it: [pair for pair in it if pair[0] != "content-type"], None),
    "an attribute twice": (lambda it: [*it, ("ce-id", "another")], None),
    "an attribute that is not percent-encoded": (
        lambda it: [*it, ("ce-note", "ş".encode().decode("latin-1"))],
        None,
    ),
    "percent-encoding that is not UTF-8": (lambda it: [*it, ("ce-note", "%FF")], None),
    "another specversion": (
        lambda it: [(name, "0.3" if name == "ce-specversion" else v) for name, v in it],
        None,
    ),
    "a batch": (lambda it: [("content-type", "application/cloudevents-batch+json")], b"[]"),
    "structured without JSON": (lambda it: [("content-type", "application/cloudevents+json")], b"<event/>"),
    "structured with plain data": (
        lambda it: [("content-type", "application/cloudevents+json")],
        b'{"specversion":"1.0","id":"1","source":"qalqan://x/states/TR","type":"x","data":{}}',
    ),
}


@pytest.mark.parametrize("how", MANGLED)
async def test_a_bad_envelope_is_a_problem_too(stranger: Stranger, http: httpx2.AsyncClient, how: str) -> None:
    """What cannot be an event is said to be none."""
    mangle, body = MANGLED[how]
    good_headers, good_body = to_http(request(stranger))
    headers = [(name, value.encode("latin-1")) for name, value in mangle([*good_headers.items()])]
    url = events_of(stranger, topics.INBOX_REQUESTS)
    answer = await http.post(
        url,
        headers=[(name.encode(), value) for name, value in headers],
        content=good_body if body is None else body,
    )
    _check_problem(answer, 422)
    assert answer.json()["reason"] == "bad-envelope", answer.text


async def test_what_is_not_there_is_a_problem_without_a_reason(stranger: Stranger, http: httpx2.AsyncClient) -> None:
    """404 and 405, in the same form."""
    base = stranger.run.http["request"]
    _check_problem(await http.get(f"{base}/nothing"), 404)
    _check_problem(await http.get(f"{base}/events"), 405)
    _check_problem(await http.post(f"{base}/events/"), 404)  # no redirect to whatever host the asker names


def _check_problem(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]


# --- reading ---


async def test_health_is_open(stranger: Stranger, http: httpx2.AsyncClient) -> None:
    """No token is needed to ask whether a service is ready."""
    for service, base in stranger.run.http.items():
        answer = await http.get(f"{base}/health")
        assert (answer.status_code, answer.json()["service"], answer.json()["ready"]) == (200, service, True)


async def test_the_stream_is_for_those_who_show_the_token(stranger: Stranger, http: httpx2.AsyncClient) -> None:
    """401 without, and with another; 400 for a place that this stream never gave."""
    url = f"{stranger.run.http['notify']}/stream"
    for authorization in (None, "Bearer wrong", "Basic Og==", f"Bearer {stranger.run.token}x"):
        answer = await http.get(url, headers={"authorization": authorization} if authorization else {})
        _check_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for place in ("-1", "x", "9" * 30):
        shown = {"authorization": f"Bearer {stranger.run.token}", "last-event-id": place}
        _check_problem(await http.get(url, headers=shown), 400)


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the stream: its number, and the structured CloudEvent with where it stands on Kafka."""

    seq: int
    body: dict[str, Any]

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition, offset."""
        return self.body["topic"], self.body["partition"], self.body["offset"]


class Reader:
    """Reads the stream, and keeps what it was told."""

    def __init__(self, system: Stack, http: httpx2.AsyncClient) -> None:
        self.told: list[Told] = []
        self._system = system
        self._http = http

    @contextlib.asynccontextmanager
    async def reading(
        self, last_event_id: int | None, address: str | None = None
    ) -> AsyncIterator[AsyncIterator[Told]]:
        """The events from after a place (None: from now on), while the block runs; of another replica, if so wished."""
        run = RunInfo.load(self._system.home / "run.json")
        headers = {"authorization": f"Bearer {run.token}"}
        if last_event_id is not None:
            headers["last-event-id"] = str(last_event_id)
        async with self._http.stream("GET", f"{address or run.http['notify']}/stream", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield self._events(answer)

    async def _events(self, answer: httpx2.Response) -> AsyncIterator[Told]:
        async for seq, event in sse.events(answer):
            told = Told(seq, event)
            self.told.append(told)
            yield told

    async def until_balloted(self, events: AsyncIterator[Told], *request_ids: str) -> None:
        """Reads on until a ballot on each request was opened."""
        missing = set(request_ids) - self._balloted(*self.told)
        async with asyncio.timeout(PATIENCE_S):
            while missing:
                missing -= self._balloted(await anext(events))

    @staticmethod
    def _balloted(*told: Told) -> set[str]:
        return {each.body["subject"] for each in told if each.body["type"] == "qalqan.BallotOpened.v1"}


async def test_the_stream_goes_on_where_it_was_cut(system: Stack, stranger: Stranger, http: httpx2.AsyncClient) -> None:
    """notify is killed while somebody reads and events come: none is missing, and none comes twice."""
    reader = Reader(system, http)
    async with reader.reading(None) as events:
        await reader.until_balloted(events, await stranger.raised())
        pid = RunInfo.load(system.home / "run.json").pids["notify"]
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(httpx2.TransportError):
            async for _ in events:
                pass
    meanwhile = [await stranger.raised() for _ in range(3)]
    await _returned(system, http, pid)
    async with reader.reading(reader.told[-1].seq) as events:
        await reader.until_balloted(events, *meanwhile)
        last = await stranger.raised()
        await reader.until_balloted(events, last)

    seqs = [told.seq for told in reader.told]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert len({told.place for told in reader.told}) == len(reader.told)


async def _returned(system: Stack, http: httpx2.AsyncClient, killed: int) -> None:
    """Waits until another process is notify, and answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.02)
            run = RunInfo.load(system.home / "run.json")
            if run.pids.get("notify", killed) == killed:
                continue
            with contextlib.suppress(httpx2.TransportError):
                if (await http.get(f"{run.http['notify']}/health")).is_success:
                    return


async def test_from_zero_the_stream_gives_everything(
    system: Stack, stranger: Stranger, http: httpx2.AsyncClient
) -> None:
    """Every record of every public topic once, each topic's partition in order, each as it stands there."""
    await stranger.raised()
    there = {(it.topic, it.partition, it.offset): it.event for it in await stranger.client.read(topics.PUBLIC)}
    reader = Reader(system, http)
    async with asyncio.timeout(PATIENCE_S), reader.reading(0) as events:
        missing = set(there)
        async for told in events:
            missing.discard(told.place)
            if not missing:
                break
    assert [told.seq for told in reader.told] == list(range(1, len(reader.told) + 1))
    places = [told.place for told in reader.told]
    assert len(set(places)) == len(places)
    reached: dict[tuple[str, int], int] = {}
    for topic, partition, offset in places:
        assert reached.get((topic, partition), -1) < offset
        reached[topic, partition] = offset
    for told in reader.told:
        if told.place in there:
            event = to_structured(there[told.place])
            assert told.body == {
                **event,
                "topic": told.place[0],
                "partition": told.place[1],
                "offset": told.place[2],
                "appendedtime": format_instant(parse_instant(told.body["appendedtime"])),
            }
