"""`qalqan rebuild`: a database made again from the topics is what it was, and the service goes on."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest

import chassis.rebuild
from deploy.local import rebuild
from deploy.local.private import secret
from deploy.local.process import Supervised
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.certificate import verify_certificate
from qalqan.client import is_closing
from qalqan.envelope import Event
from qalqan.registry import Root
from qalqan.sources import service_source
from tests.chaos.checks import distinct
from tests.conftest import pledge_data
from tests.integration.stranger import Stranger, raw

MEMBERS = ("AZ", "KG", "KZ", "UZ")
AT = "2023-02-06T09:00:00Z"
PATIENCE_S = 60.0


@dataclass
class Night:
    """What was said: requests by what became of them, and submissions that may be repeated."""

    open: str
    waiting: dict[str, Any]
    said: list[tuple[Event, topics.Topic]]


async def night(stranger: Stranger) -> Night:
    """Requests to every outcome, and submissions of every kind."""
    said: list[tuple[Event, topics.Topic]] = []

    async def say(name: str, data: dict[str, Any], by: str = "TR", inbox: topics.Topic = topics.INBOX_PLEDGES) -> None:
        event = stranger.signed(name, data, by)
        said.append((event, inbox))
        await stranger.admit(event, inbox)

    async def vote(request_id: str, state: str, **fields: Any) -> None:
        await say("VoteCast", await stranger.vote_data(request_id, state, **fields), state, topics.INBOX_VOTES)

    async def decided(request_id: str, **of_one: Any) -> None:
        for state in MEMBERS:
            await vote(request_id, state, **(of_one if state == "KZ" else {}))

    async def departed(request_id: str) -> None:
        report = {"request_id": request_id, "pledge_id": "AZ-1", "line_id": None, "quantity": 2, "at": AT}
        place = {"name": "Baku", "country": "AZ", "lat": 40.47, "lon": 50.05}
        await say("ResourceDeparted", {**report, "place": place}, "AZ")

    reached = await stranger.raised()
    await stranger.offered(reached)
    answer = {"request_id": reached, "pledge_id": "AZ-1", "pledge_revision": 1}
    await say("PledgeAccepted", {**answer, "quantity": 3})
    await decided(reached)
    await stranger.stated("MobilizationAuthorized", reached)
    await departed(reached)
    await stranger.offered(reached, "KZ-1")
    await say("PledgeDeclined", {**answer, "pledge_id": "KZ-1", "reason": "enough has come"})
    await stranger.offered(reached, "UZ-1")
    await say("PledgeWithdrawn", {"request_id": reached, "pledge_id": "UZ-1", "reason": "needed at home"}, "UZ")
    await say("RequestClosed", {"request_id": reached, "reason": "done"}, inbox=topics.INBOX_REQUESTS)
    await stranger.stated("MandateEnded", reached)

    automatic = await stranger.raised(acceptance="automatic")
    await stranger.offered(automatic)
    await stranger.stated("PledgeAccepted", automatic)
    await decided(automatic, position="object", reason="the roads are closed")
    await stranger.stated("ConsensusBlocked", automatic)

    cancelled = await stranger.raised()
    await vote(cancelled, "AZ")
    lost = await stranger.register_key("KG", ["vote"])
    by_it = stranger.signed("VoteCast", await stranger.vote_data(cancelled, "KG"), "KG", lost)
    await stranger.admit(by_it, topics.INBOX_VOTES)
    await stranger.revoke_key(lost.key_id)  # what it signed before stands
    await say("RequestCancelled", {"request_id": cancelled, "reason": "a mistake"}, inbox=topics.INBOX_REQUESTS)
    await stranger.stated("BallotWithdrawn", cancelled)

    amended = stranger.new_request()
    anticipated = {name: amended[name] for name in ("request_id", "affected_state", "mode", "emergency", "text")}
    await say("RequestAnticipated", anticipated, inbox=topics.INBOX_REQUESTS)
    await stranger.offered(amended["request_id"], answers=[])
    await say("RequestRaised", amended, inbox=topics.INBOX_REQUESTS)
    await vote(amended["request_id"], "KG")
    await say("RequestAmended", {**amended, "revision": 2}, inbox=topics.INBOX_REQUESTS)
    await stranger.stated("BallotSuperseded", amended["request_id"])

    open_ = await stranger.raised()
    await stranger.offered(open_)
    await say("PledgeRevised", {**pledge_data(open_), "quantity": 5, "revision": 2}, "AZ")
    await say("PledgeAccepted", {**answer, "request_id": open_, "quantity": 2, "pledge_revision": 2})
    for state in ("AZ", "KG"):
        await vote(open_, state)
    await vote(open_, "AZ", sequence=2, position="abstain")

    return Night(open_, stranger.new_request(topics.partition_of(open_)), said)


async def refused(stranger: Stranger, night: Night) -> None:
    """Rejections of every kind that a rebuild must tell apart: with and without an identity."""
    for inbox in topics.INBOXES:
        forged = stranger.signed("VoteCast", b"{}", key=stranger.state_key("KZ"), subject=night.open)
        await stranger.rejection(await stranger.put(raw(forged, inbox)))
    other = await stranger.vote_data(night.open, "KG", position="abstain")
    equivocal = stranger.signed("VoteCast", other, "KG")
    await stranger.rejection(await stranger.put(raw(equivocal, topics.INBOX_VOTES)))
    night.said.append((equivocal, topics.INBOX_VOTES))
    for event, inbox in night.said[:3]:
        await stranger.put(raw(event, inbox))  # a repetition


# --- the database ----------------------------------------------------------------------------------------------------

TABLES = {
    "subject": "select key, partition, open, positions, folded, doc from subject order by key",
    "part": "select key, name, doc from part order by key, name",
    "inbox": 'select partition, source, id, core, "offset" from inbox order by partition, source, id',
    # Not `members_offset`: what waits is judged anew, with the keys that are known by then.
    "parked": 'select partition, "offset", key, queue, source, record, parked_at from parked order by 1, 2',
    "lane": "select partition, next_offsets, log_time, doc from lane order by partition",
    "stream": "select last_seq from stream",
    "event": 'select topic, partition, "offset", body from event order by topic, partition, "offset"',
}


async def tables(system: Stack, service: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the database holds, but for what a rebuild is free in (`chassis.rebuild`)."""
    connection = await asyncpg.connect(system.service_url(service))
    try:
        names = ("stream", "event") if service == "notify" else ("subject", "part", "inbox", "parked", "lane")
        async with connection.transaction(
            isolation="repeatable_read"
        ):  # all of one moment: the service goes on meanwhile
            return {name: [tuple(map(_plain, row)) for row in await connection.fetch(TABLES[name])] for name in names}
    finally:
        await connection.close()


def _plain(value: Any) -> Any:
    """JSON as it is; the order of facts of different topics, which is free, sorted."""
    if isinstance(value, str) and value[:1] in "{[":
        parsed = json.loads(value)
        return sorted(parsed) if isinstance(parsed, list) else parsed
    return value


async def at_rest(system: Stack, stranger: Stranger, service: str) -> dict[str, list[tuple[Any, ...]]]:
    """The tables, once the service has handled all there is."""
    inboxes = {"request": topics.INBOX_REQUESTS, "consensus": topics.INBOX_VOTES, "pledge": topics.INBOX_PLEDGES}
    follows = {"consensus": [topics.REQUESTS], "pledge": [topics.REQUESTS, topics.DECISIONS]}.get(service, [])
    reads = topics.PUBLIC if service == "notify" else (inboxes.get(service, topics.INBOX_GOVERNANCE), *follows)
    ends = {tp: end for topic in reads for tp, end in (await stranger.ends(topic)).items() if end}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await tables(system, service)
            if service == "notify":
                done = len(found["event"]) == sum(ends.values())
            else:
                reached = {(t, row[0]): end for row in found["lane"] for t, end in row[1].items()}
                done = all(reached.get((tp.topic, tp.partition), 0) >= end for tp, end in ends.items())
            if done:
                return found
            await asyncio.sleep(0.05)


def _but_lanes(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """A repetition at the end of an inbox left no word behind: a lane reads it again, and nothing comes of it."""
    return {name: rows for name, rows in found.items() if name != "lane"}


async def handled(system: Stack, service: str) -> list[int]:
    """Offsets that lanes leave out."""
    if service == "notify":
        return []
    connection = await asyncpg.connect(system.service_url(service))
    try:
        return [offset for row in await connection.fetch("select handled from lane") for offset in row["handled"]]
    finally:
        await connection.close()


async def stop(system: Stack, service: str) -> None:
    """The service ends, and stays so."""
    await asyncio.to_thread(system.processes[service].stop)


async def start(system: Stack, service: str) -> None:
    """The service is started again."""
    program = system._program(service, secret(system.home, "token"))
    process = system._supervise(Supervised(program, system._changed))
    await asyncio.to_thread(process.wait_ready)


async def published(stranger: Stranger, service: str) -> set[tuple[str, str | None, int | None, str]]:
    """All that stands on public topics, once; of the rejections those of one service, for others go on meanwhile."""
    own = service_source(stranger.network, service)
    return {
        (m.topic, m.event.subject, m.position, m.event.id)
        for m in await stranger.client.read(topics.PUBLIC)
        if m.topic != topics.REJECTIONS.name or m.event.source == own
    }


async def test_every_database_is_made_again_as_it_was_and_the_line_goes_on(
    system: Stack, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the five: the same rows, nothing stated a second time; then votes, repetitions and chains go on.

    Requests leave memory at once, so that whatever comes later for one loads it again.
    """
    monkeypatch.setattr(chassis.rebuild, "_SUBJECTS_IN_MEMORY", 1)
    happened = await night(stranger)
    early = stranger.signed("PledgeOffered", pledge_data(happened.waiting["request_id"]), "AZ")
    await stranger.put(raw(early, topics.INBOX_PLEDGES))
    await refused(stranger, happened)  # in the same lane, behind what waits

    await subscribed_in_vain(stranger)
    for service in ("pledge", "consensus", "request", "secretariat", "notify"):
        before = await at_rest(system, stranger, service)
        stood = await published(stranger, service)
        readers = await told(system)
        await stop(system, service)
        await asyncio.to_thread(rebuild.run, system, service)
        folded = await tables(system, service)
        left_out = await handled(system, service)
        await start(system, service)
        after = await at_rest(system, stranger, service)
        for name, rows in before.items():
            assert after[name] == rows, f"{service}.{name}"
        assert await told(system) == readers, "whom notify tells, and what waits for them"
        assert bool(left_out) == (service == "pledge"), "what is behind a submission that waits is done with"
        if service in ("request", "secretariat"):  # those that follow others read on from their last word
            assert _but_lanes(folded) == _but_lanes(before), f"{service}: all of it was folded"
        assert await published(stranger, service) == stood, f"{service} states nothing again"

    # What waited still waits, and comes in with its request.
    assert not [row for row in (await tables(system, "pledge"))["subject"] if row[0] == happened.waiting["request_id"]]
    await stranger.admit(stranger.signed("RequestRaised", happened.waiting), topics.INBOX_REQUESTS)
    assert (await stranger.stated("PledgeOffered", happened.waiting["request_id"])).event.id == early.id
    await the_line_goes_on(stranger, happened)


async def subscribed_in_vain(stranger: Stranger) -> None:
    """Somebody subscribes whose target is dead: an event waits for it."""
    request_id = stranger.new_request()["request_id"]
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {stranger.run.token}"}) as http:
        wanted = {"kind": "webhook", "target": "http://127.0.0.1:9/", "filter": {"requests": [request_id]}}
        answer = await http.post(f"{stranger.run.http['notify']}/subscriptions", json=wanted)
        assert answer.status_code == 201, answer.text
        made = answer.json()["subscription_id"]
        data = {**stranger.new_request(), "request_id": request_id}
        await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
        await stranger.stated("BallotOpened", request_id)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await http.get(f"{stranger.run.http['notify']}/subscriptions/{made}/deliveries")
                if len(answer.json()["items"]) == 2:
                    return
                await asyncio.sleep(0.05)


async def told(system: Stack) -> dict[str, list[tuple[Any, ...]]]:
    """Notify's subscriptions, where each goes on, which events wait for which, and each request as readers see it."""
    connection = await asyncpg.connect(system.service_url("notify"))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await connection.fetchval(BEHIND, [topic.name for topic in topics.REQUEST_TOPICS]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = {name: await connection.fetch(text) for name, text in TOLD.items()}
        return {name: [tuple(map(_plain, row)) for row in rows] for name, rows in found.items()}
    finally:
        await connection.close()


BEHIND = "select (select max(seq) from event where topic = any($1::text[])) > projected from board"
TOLD = {
    "subscriptions": "select subscription_id, target, secret, filter, status from subscription order by 1",
    "deliveries": """select subscription_id, state, e.topic, e.partition, e."offset" from delivery d
        join event e on d.kind = 'event' and e.seq = d.number order by 1, 3, 4, 5""",
    "views": "select (doc::jsonb - 'seq' - 'changed_at' - 'coverage_over_time')::text from view order by request_id",
}


async def the_line_goes_on(stranger: Stranger, happened: Night) -> None:
    """Repetitions are silent, liars are told, the open ballot closes, and its certificate continues the chain."""
    ends = {tp: end for topic in topics.PUBLIC for tp, end in (await stranger.ends(topic)).items()}
    for event, inbox in happened.said:
        await stranger.put(raw(event, inbox))
    event, inbox = happened.said[0]
    liar = stranger.signed(
        "PledgeWithdrawn", {"request_id": event.subject, "pledge_id": "AZ-1", "reason": "x"}, id=event.id
    )
    other = await stranger.vote_data(happened.open, "KG", position="abstain")
    equivocal = stranger.signed("VoteCast", other, "KG")
    told = [
        await stranger.rejection(await stranger.put(raw(liar, inbox))),
        await stranger.rejection(await stranger.put(raw(equivocal, topics.INBOX_VOTES))),
    ]
    assert [message.data["reason"] for message in told] == ["duplicate-id", "equivocation"]
    for state in ("KZ", "UZ"):
        await stranger.voted(happened.open, state)
    closed = await stranger.stated("ConsensusReached", happened.open)
    await stranger.stated("MobilizationAuthorized", happened.open)
    assert closed.data["tally"] == {
        state: "abstain" if state == "AZ" else "approve" for state in ("AZ", "KG", "KZ", "TR", "UZ")
    }
    said = [json.dumps(record.headers, default=bytes.hex) for record in await stranger.written_since(ends)]
    assert len(said) == 2 + 2 + 1 + 1, (
        "two rejections, two votes, a decision, a mobilisation: no repetition has an effect"
    )

    root = Root.load(stranger.run.root)
    certificates = [
        m.data["certificate"] for m in distinct(await stranger.client.read([topics.DECISIONS])) if is_closing(m)
    ]
    chain = [it for it in certificates if it["chain"] == closed.data["certificate"]["chain"]]
    assert [it["serial"] for it in chain] == list(range(1, len(chain) + 1))
    assert not [why for certificate in certificates for why in verify_certificate(certificate, root)]
    by_key: dict[tuple[str, str | None], list[int | None]] = {}
    for message in distinct(await stranger.client.read(topics.REQUEST_TOPICS)):
        by_key.setdefault((message.topic, message.event.subject), []).append(message.position)
    assert all(positions == list(range(1, len(positions) + 1)) for positions in by_key.values()), "no gap, none twice"
