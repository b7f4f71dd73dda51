"""The board, live and as it stands: what it shows is what the public topics say, and nothing that is not believed."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from chassis.database import Pool, connect
from chassis.follower import Follower
from chassis.tasks import end
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.events import EVENTS, MobilizationAuthorized, PledgeAccepted, PledgeOffered, RequestRaised
from qalqan.instants import to_millis
from qalqan.registry import Root
from qalqan.signing import Ed25519Key
from qalqan.topics import DECISIONS, VOTES
from services.notify.api.board import signature_of
from services.notify.board import Board
from services.notify.domain import projection
from services.notify.domain.entry import body_of
from services.notify.domain.turns import Turn, TurnView, turns
from services.notify.domain.view import View
from services.notify.store import events, views
from services.notify.store import turns as store
from services.notify.stream import Stream
from services.notify.turns import Turns
from tests import sse
from tests.integration.stranger import PATIENCE_S, Stranger
from tests.unit.builders import example
from tests.unit.test_projection import LINE, seen, told

TABLES = [
    *import_module("services.notify.migrations.versions.0001_stream").STATEMENTS,
    *import_module("services.notify.migrations.versions.0002_subscriptions").STATEMENTS,
]
Json = dict[str, Any]


class Notify:
    """notify over HTTP, with a token."""

    def __init__(self, stranger: Stranger, http: httpx2.AsyncClient) -> None:
        self.base = stranger.run.http["notify"]
        self._http = http
        self._token = stranger.run.token

    def shown(self, token: str | None = None) -> dict[str, str]:
        """What shows who asks."""
        return {"authorization": f"Bearer {token or self._token}"}

    async def get(self, path: str, **parameters: Any) -> Json:
        """A thing that is there."""
        answer = await self._http.get(f"{self.base}{path}", params=parameters, headers=self.shown())
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def post(self, path: str, token: str | None = None) -> httpx2.Response:
        """An answer, whatever it is."""
        return await self._http.post(f"{self.base}{path}", headers=self.shown(token))

    @contextlib.asynccontextmanager
    async def live(self, path: str, after: int | None = None, **parameters: Any) -> AsyncIterator[AsyncIterator[Json]]:
        """The events of a live answer: `id` and data."""
        headers = self.shown() | ({} if after is None else {"last-event-id": str(after)})
        async with (
            asyncio.timeout(PATIENCE_S),
            self._http.stream("GET", f"{self.base}{path}", params=parameters, headers=headers) as answer,
        ):
            assert answer.status_code == 200
            yield _events(answer)

    async def until(self, request_id: str, seen: Any) -> Json:
        """The view of a request, once it is as wished."""
        async with self.live(f"/requests/{request_id}/live") as changes:
            async for change in changes:
                if seen(change):
                    return change
        raise AssertionError("the stream ended")


async def _events(answer: httpx2.Response) -> AsyncIterator[Json]:
    async for number, data in sse.events(answer):
        yield {"id": number, **data}


def positions(view: Json) -> Json:
    """On its first ballot, by state; none before that has been read."""
    return dict(view["ballots"][0]["positions"]) if view["ballots"] else {}


@pytest_asyncio.fixture
async def notify(stranger: Stranger) -> AsyncIterator[Notify]:
    """Its HTTP side."""
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        yield Notify(stranger, http)


async def test_the_board_shows_what_the_services_say(stranger: Stranger, notify: Notify) -> None:
    request_id = await stranger.raised()
    await stranger.offered(request_id, "AZ-1")
    answer = {"request_id": request_id, "pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 3}
    await stranger.admit(stranger.signed("PledgeAccepted", answer), topics.INBOX_PLEDGES)
    for state in ("AZ", "KG", "KZ", "UZ"):
        await stranger.voted(request_id, state)
    stated = await stranger.stated("MobilizationAuthorized", request_id)
    view = await notify.until(request_id, lambda view: view["mobilization"] and len(positions(view)) == 5)
    assert view["mobilization"]["lines"] == stated.data["lines"]
    (need,), (coverage,) = view["needs"], stated.data["coverage"]
    assert {name: need[name] for name in ("covered", "on_time", "bilateral")} == {
        name: coverage[name] for name in ("covered", "on_time", "bilateral")
    }
    assert view["ballots"][0]["outcome"] == "reached"
    assert [(wait["kind"], wait["state"]) for wait in view["waits"]] == [("depart", "AZ")]
    board = await notify.get("/board", limit=500)
    (card,) = [card for card in board["cards"] if card["request_id"] == request_id]
    assert card["seq"] == view["seq"] <= board["seq"]
    assert (card["ballot"]["in"], card["ballot"]["of"], card["coverage"]["covered"]) == (5, 5, 3)
    assert view.items() >= (await notify.get(f"/requests/{request_id}")).items()


async def test_cards_come_as_they_change_and_a_reader_that_was_away_gets_the_newest(
    stranger: Stranger, notify: Notify
) -> None:
    before = (await notify.get("/board"))["seq"]
    request_id = await stranger.raised()
    async with notify.live("/board/live", after=before) as cards:
        async for card in cards:
            if card["request_id"] == request_id and card["ballot"]:
                break
    await stranger.voted(request_id, "KZ")
    await notify.until(request_id, lambda view: "KZ" in positions(view))
    async with notify.live("/board/live", after=before) as cards:
        ours = [card async for card in _first(cards, lambda card: card["request_id"] == request_id)]
    assert ours[-1]["ballot"]["in"] == 2  # one card, as it is now: not each that it has been
    async with notify.live("/board/live", after=before, mode="exercise") as cards:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                async for card in cards:
                    assert card["mode"] == "exercise"


async def _first(cards: AsyncIterator[Json], wanted: Any) -> AsyncIterator[Json]:
    async for card in cards:
        yield card
        if wanted(card):
            return


async def test_the_stream_takes_filters(stranger: Stranger, notify: Notify) -> None:
    request_id = await stranger.raised()
    other = await stranger.raised()
    for state in ("KZ", "UZ"):
        await stranger.voted(request_id, state)
    await stranger.voted(other, "KZ")

    async def told(count: int, **filters: Any) -> list[tuple[str, str]]:
        async with notify.live("/stream", after=0, **filters) as events:
            found = []
            async for event in events:
                found.append((event["subject"], event["type"].split(".")[1]))
                if len(found) == count:
                    return found
        raise AssertionError("the stream ended")

    assert sorted(await told(4, request=request_id)) == [
        (request_id, name) for name in ("BallotOpened", "RequestRaised", "VoteCast", "VoteCast")
    ]
    both = await told(2, request=[request_id, other], type="VoteCast", state="KZ")
    assert sorted(both) == sorted([(request_id, "VoteCast"), (other, "VoteCast")])
    assert (await told(1, request=request_id, type="qalqan.VoteCast.v1", state="UZ")) == [(request_id, "VoteCast")]
    registered = await told(8, type=["MemberRegistered", "KeyRegistered"])
    assert {name for _, name in registered} == {"MemberRegistered", "KeyRegistered"}
    # What is new passes the same filters as what is old.
    async with notify.live("/stream", request=request_id, type="VoteCast") as events:
        await stranger.voted(other, "AZ")
        await stranger.voted(request_id, "AZ")
        assert (await anext(events))["subject"] == request_id


async def test_an_event_that_is_not_to_be_believed_is_shown_as_such_and_counts_nowhere(
    system: Stack, stranger: Stranger
) -> None:
    """As if somebody had written to public topics, past the ACLs: under a key of its own, or of another state."""
    request_id = stranger.new_request()["request_id"]
    raised = stranger.signed("RequestRaised", {**stranger.new_request(), "request_id": request_id})
    unknown = stranger.signed("RequestAmended", b"{}", subject=request_id, key=Ed25519Key.generate())
    foreign = stranger.signed("RequestCancelled", _ENDING | {"request_id": request_id}, key=stranger.state_key("AZ"))
    unsigned = stranger.event("RequestClosed", _ENDING | {"request_id": request_id})
    malformed = stranger.signed("RequestAmended", b'{"request_id":7}', subject=request_id)
    copied = stranger.signed("RequestClosed", _ENDING | {"request_id": request_id})
    async with _board_of_its_own(system) as (pool, board, follower):
        partition = topics.partition_of(request_id)
        for offset, event in enumerate((raised, unknown, foreign, unsigned, malformed, copied)):
            told = replace(event, extensions={"mode": "test", "position": f"{offset + 1:010}"})
            if event is copied:  # genuine, and yet not by the hand that writes here
                told = replace(event, extensions={"mode": "test"})
            body = body_of(told, topics.REQUESTS.name, partition, offset, to_millis(datetime.now(UTC)))
            await events.append(pool, [(topics.REQUESTS.name, partition, offset, request_id, None, body)])
        async with asyncio.timeout(PATIENCE_S):
            while board.seq < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        view = await board.view(request_id)
        assert view is not None
        assert (view.status, view.positions) == ("open", {"requests": 1})
        signatures = [signature_of(entry, follower) for entry in await events.after(pool, 0, 9)]
        assert [signature.state for signature in signatures] == [
            "valid",
            "unknown-key",
            "invalid",
            "none",
            *["valid"] * 2,
        ]
        assert [signature.by for signature in signatures] == ["TR", None, "AZ", None, "TR", "TR"]


_ENDING = {"reason": "so it is"}


@contextlib.asynccontextmanager
async def _board_of_its_own(system: Stack) -> AsyncIterator[tuple[Pool, Board, Follower]]:
    """A board over a store that nobody else writes to, believing whom this network believes."""
    async with (
        _a_store(system) as pool,
        _folding(system, pool) as (stream, board, follower),
        _working(stream.follow_store, board.follow, board.keep),
    ):
        yield pool, board, follower


@contextlib.asynccontextmanager
async def _working(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
    finally:
        await end(tasks)


@contextlib.asynccontextmanager
async def _folding(
    system: Stack, pool: Pool, unread: Callable[[], float] = lambda: 0
) -> AsyncIterator[tuple[Stream, Board, Follower]]:
    follower = Follower(system.access, "a-board", Root.load(system.identity.root))
    await follower.start()
    stream = Stream(pool)
    try:
        yield stream, Board(pool, stream, follower, unread), follower
    finally:
        await follower.stop()


@contextlib.asynccontextmanager
async def _a_store(system: Stack) -> AsyncIterator[Pool]:
    async with contextlib.AsyncExitStack() as stack:
        owner = await asyncpg.connect(system.database_url)
        stack.push_async_callback(owner.close)
        await owner.execute("drop schema if exists a_board cascade; create schema a_board; set search_path = a_board")
        stack.push_async_callback(owner.execute, "drop schema a_board cascade")
        for statement in TABLES:
            await owner.execute(statement)
        pool = await connect(f"{system.database_url}?search_path=a_board", "a-board")
        stack.push_async_callback(pool.close)
        yield pool


async def _told(pool: Pool, stranger: Stranger, seq: int, name: str, data: Json, by: str = "TR") -> None:
    """Appends an event to a store, under a number that is its position too."""
    event, topic = stranger.signed(name, data, by=by), PUBLIC_TOPIC[name]
    told = replace(event, extensions={"mode": "test", "position": f"{seq:010}"})
    partition = topics.partition_of(data["request_id"])
    body = body_of(told, topic, partition, seq, to_millis(datetime.now(UTC)))
    await events.append(pool, [(topic, partition, seq, data["request_id"], None, body)])


PUBLIC_TOPIC = {kind.name: kind.topic.name for kind in EVENTS.values() if kind.topic is not None}


@pytest.mark.parametrize("unread", [1, 0])
async def test_what_waits_is_given_up_only_when_all_there_is_was_read(
    system: Stack, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, unread: int
) -> None:
    """After a long pause a topic that has little is read long before one that has much."""
    monkeypatch.setattr(projection, "PATIENCE", 1)
    first, other = stranger.new_request(), stranger.new_request()
    async with (
        _a_store(system) as pool,
        _folding(system, pool, lambda: unread) as (stream, board, _),
        asyncio.timeout(PATIENCE_S),
        _working(stream.follow_store, board.follow),
    ):

        async def folded(seq: int) -> None:
            while board.seq < seq:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        offer = dict(example(PledgeOffered, request_id=first["request_id"]).model_dump(mode="json", by_alias=True))
        await _told(pool, stranger, 1, "PledgeOffered", offer, by="AZ")
        await folded(1)
        await _told(pool, stranger, 2, "RequestRaised", other)
        await _told(pool, stranger, 3, "RequestClosed", _ENDING | {"request_id": other["request_id"]})
        await folded(3)
        await _told(pool, stranger, 4, "RequestRaised", first)
        await folded(4)
        view = await board.view(first["request_id"])
        assert view is not None
        assert len(view.pledges) == unread


async def test_readers_are_told_also_by_a_replica_that_finds_the_change_in_the_store(
    system: Stack, stranger: Stranger
) -> None:
    """Another replica read the same events a moment before, and has written what came of them."""
    data = stranger.new_request()
    async with (
        _a_store(system) as pool,
        _folding(system, pool) as (stream, board, _),
        _folding(system, pool) as (faster_stream, faster, _),
        asyncio.timeout(PATIENCE_S),
        _working(board.follow),
    ):
        changes, views_of = board.changes(0), board.view_changes(data["request_id"])
        card, view = asyncio.ensure_future(anext(changes)), asyncio.ensure_future(anext(views_of))
        await asyncio.sleep(0.1)
        async with _working(faster_stream.follow_store, faster.follow):
            await _told(pool, stranger, 1, "RequestRaised", data)
            await _told(pool, stranger, 2, "RequestClosed", _ENDING | {"request_id": data["request_id"]})
            while faster.seq < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await faster.flush()
        async with _working(stream.follow_store):
            await asyncio.gather(card, view)
        assert json.loads(card.result().text)["status"] == json.loads(view.result().text)["status"] == "closed"


async def test_a_reader_that_goes_takes_nothing_along(system: Stack, stranger: Stranger) -> None:
    """It had the board written, for it wanted what is old; and left before that was done."""
    data = stranger.new_request()
    async with (
        _a_store(system) as pool,
        _folding(system, pool) as (stream, board, _),
        asyncio.timeout(PATIENCE_S),
        _working(stream.follow_store, board.follow),
    ):
        await _told(pool, stranger, 1, "RequestRaised", data)
        while board.seq < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select from board for update")
            reader = asyncio.create_task(board.flush())
            await asyncio.sleep(0.1)
            await end([reader])
        async with _working(board.keep):
            while not await views.load(pool, [data["request_id"]]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_what_is_owed_anew_is_told_anew_and_not_all_at_once(system: Stack) -> None:
    story = [
        example(RequestRaised),
        example(PledgeOffered),
        example(PledgeAccepted),
        example(MobilizationAuthorized, lines=[LINE]),
    ]
    late = seen(told(story))
    async with _a_store(system) as pool, _folding(system, pool) as (_, board, _):

        async def keep(seq: int, *owed: Turn) -> None:
            await views.keep(pool, [views.row_of(late.model_copy(update={"seq": seq}), CARD)], owed, seq)

        async def turn() -> TurnView:
            return (await store.listed(pool, None, None, None, 9))[0]

        (owed,) = turns(late)
        for seq in (1, 3):
            await keep(seq, owed)
            async with _working(Turns(pool, board, system.identity.network).tell):
                await asyncio.sleep(1.5)
            found = await turn()
            assert (found.level, len(found.told_at)) == (0, (seq + 1) // 2)
            if seq == 1:
                await pool.execute("update turn set told_at = array[now() - interval '3 days']")
                await keep(2)  # it has left; then more is to
                assert (await turn()).ended_at is not None
        await store.acknowledge(pool, found.turn_id, "duty desk")
        in_time = datetime.now(UTC) + timedelta(hours=1)
        await keep(4, owed.model_copy(update={"deadline": in_time, "next_at": in_time}))
        assert ((await turn()).level, (await turn()).acknowledged_at) == (-1, None)
        assert await store.due(pool, 9) == []


CARD = '{"title": "x", "severity": "Extreme"}'


async def test_the_events_of_a_request_come_in_pages(stranger: Stranger, notify: Notify) -> None:
    request_id = await stranger.raised()
    for state in ("AZ", "KZ", "UZ"):
        await stranger.voted(request_id, state)
    await notify.until(request_id, lambda view: len(positions(view)) == 4)
    whole = await notify.get(f"/requests/{request_id}/events")
    assert whole["next"] is None
    paged, after = [], 0
    while after is not None:
        page = await notify.get(f"/requests/{request_id}/events", after=after, limit=2)
        paged += page["items"]
        after = page["next"]
    assert paged == whole["items"]
    assert [item["signature"]["state"] for item in paged] == ["valid"] * 5


async def test_killed_in_the_midst_notify_goes_on_as_if_nothing_had_happened(
    system: Stack, stranger: Stranger, notify: Notify
) -> None:
    request_ids = [await stranger.raised() for _ in range(3)]

    async def vote() -> None:
        for state in ("AZ", "KG", "KZ", "UZ"):
            for request_id in request_ids:
                await stranger.voted(request_id, state)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(vote())
        await asyncio.sleep(0.1)
        os.kill(system.run()["pids"]["notify"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(httpx2.TransportError, AssertionError):
                found = [await notify.get(f"/requests/{request_id}") for request_id in request_ids]
                if all(view["mobilization"] and len(positions(view)) == 5 for view in found):
                    break
            await asyncio.sleep(0.05)
    for view in found:
        assert view["positions"] == {"requests": 1, VOTES.name: 4, DECISIONS.name: 2, "mobilizations": 1}
        assert view["waits"] == []


async def test_a_state_is_told_that_it_is_its_turn_until_it_has_done_it(stranger: Stranger, notify: Notify) -> None:
    request_id = await stranger.raised()
    await notify.until(request_id, lambda view: view["ballots"])

    async def owed(**more: Any) -> dict[str, Json]:
        items = (await notify.get("/turns", request=request_id, **more))["items"]
        return {item["state"]: item for item in items}

    async with asyncio.timeout(PATIENCE_S):
        while {turn["level"] for turn in (await owed()).values()} != {0}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    told = await owed()
    assert sorted(told) == ["AZ", "KG", "KZ", "UZ"]
    assert all(len(turn["told_at"]) == 1 and turn["kind"] == "vote" for turn in told.values())
    acknowledged = await notify.post(f"/turns/{told['KZ']['turn_id']}/acknowledge")
    assert acknowledged.status_code == 200
    assert acknowledged.json()["acknowledged_by"] == "development (secretariat)"
    await stranger.voted(request_id, "UZ")
    async with asyncio.timeout(PATIENCE_S):
        while "UZ" in await owed(open="true"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await owed())["UZ"]["ended_at"] is not None
    assert sorted(await owed(open="true")) == ["AZ", "KG", "KZ"]
    assert (await notify.post("/turns/00000000-0000-0000-0000-000000000000/acknowledge")).status_code == 404


async def test_a_replica_that_lags_behind_takes_nothing_back(system: Stack, stranger: Stranger, notify: Notify) -> None:
    """It folds the same events, and writes later what is older."""
    request_id = await stranger.raised()
    await notify.until(request_id, lambda view: view["ballots"])
    await stranger.voted(request_id, "KZ")
    newer = await notify.until(request_id, lambda view: "KZ" in positions(view))
    await notify.get("/board")  # and so it is kept
    pool = await asyncpg.create_pool(system.service_url("notify"), min_size=1, max_size=1)
    try:
        before = await pool.fetchval("select projected from board")
        found = (await views.load(pool, [request_id]))[request_id]
        assert found.seq == newer["seq"]
        older: View = found.model_copy(update={"seq": found.seq - 1, "status": "closed", "waits": []})
        await views.keep(pool, [views.row_of(older, "{}")], turns(older), 1)
        assert (await views.load(pool, [request_id]))[request_id] == found
        assert await pool.fetchval("select projected from board") >= before
        open_turns = await pool.fetchval(
            "select count(*) from turn where request_id = $1 and ended_at is null", request_id
        )
        assert open_turns == 3
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/requests/TR-2023-nowhere", 404),
        ("/requests/TR-2023-nowhere/events", 404),
        ("/requests/not an id", 422),
        ("/board?limit=0", 422),
        ("/board?mode=war", 422),
        ("/stream?type=Nothing", 422),
        ("/stream?request=%00", 422),
        ("/requests/TR-2023-nowhere/events?after=9223372036854775808", 422),
        ("/subscriptions?cursor=%00", 422),
        ("/stream?mode=war", 422),
        ("/turns?state=kz", 422),
    ],
)
async def test_what_cannot_be_shown_is_a_problem(notify: Notify, path: str, status: int) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{notify.base}{path}", headers=notify.shown())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_of_a_body_no_more_is_read_than_a_service_could_want(notify: Notify) -> None:
    """Also not for whoever shows no token: the body comes before that is looked at."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65_536

    async with httpx2.AsyncClient() as http:
        headers = {"content-type": "application/json"}
        answer = await http.post(f"{notify.base}/subscriptions", content=endless(), headers=headers)
        named = await http.post(
            f"{notify.base}/subscriptions",
            json={"kind": "webhook", "target": "http://127.0.0.1:9/", "name": "\0"},
            headers=notify.shown(),
        )
    assert (answer.status_code, named.status_code) == (413, 422)
