"""What became of a submission, over HTTP: `Prefer: wait`, and by its location, on any replica and for good."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from chassis.submissions import WAIT_LIMIT_S, preferred_wait_s
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.envelope import Event, to_http
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key
from tests.conftest import pledge_data
from tests.integration.stranger import OWNERS, PATIENCE_S, Place, Stranger, raw
from tests.integration.test_http import SUBMISSIONS, Make, each_owner


class Office:
    """The services' HTTP side, with the token."""

    def __init__(self, system: Stack, http: httpx2.AsyncClient) -> None:
        self._system = system
        self._http = http

    @property
    def run(self) -> RunInfo:
        """Where they are now."""
        return RunInfo.load(self._system.home / "run.json")

    async def post(self, event: Event, inbox: topics.Topic, prefer: str | None = None) -> httpx2.Response:
        """Submits an event to the owner of an inbox."""
        headers, body = to_http(event)
        if prefer is not None:
            headers["prefer"] = prefer
        return await self._http.post(f"{self.run.http[OWNERS[inbox.name]]}/events", headers=headers, content=body)

    async def get(self, location: object, service: str, token: str | None = None) -> httpx2.Response:
        """Asks what became of a submission."""
        shown = self.run.token if token is None else token
        url = f"{self.run.http[service]}{location}"
        return await self._http.get(url, headers={"authorization": f"Bearer {shown}"})

    async def settled(self, location: object, service: str) -> dict[str, Any]:
        """The same, once it is not pending any more."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self.get(location, service)
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                if found["status"] != "pending":
                    return found
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module")
async def office(system: Stack) -> AsyncIterator[Office]:
    """The services' HTTP side."""
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        yield Office(system, client)


def location_of(place: Place) -> str:
    """Where what became of a record is to be asked for."""
    return f"/submissions/{place}"


# --- Prefer: wait ---


@pytest.mark.parametrize(
    ("preferences", "seconds"),
    [
        ([], None),
        (["respond-async"], None),
        (["wait=5"], 5),
        (["respond-async, wait=7"], 7),
        (['Wait = "3"; x=y, wait=9'], 3),
        (["return=minimal", "wait=4"], 4),
        (["wait=999999"], WAIT_LIMIT_S),
        (["wait=0"], 0),
        (["wait=soon"], None),
        (["wait=-1"], None),
        (["await=1"], None),
        (["wait"], None),
    ],
)
def test_a_preference_is_read_as_rfc_7240_has_it(preferences: list[str], seconds: int | None) -> None:
    """The first counts; what cannot be understood is as if it were not there."""
    assert preferred_wait_s(preferences) == seconds


@each_owner
async def test_who_waits_is_told_that_it_is_admitted(
    stranger: Stranger, office: Office, inbox: topics.Topic, make: Make
) -> None:
    """201 with its location and where it stands, which is where everybody finds it."""
    event = await make(stranger)
    answer = await office.post(event, inbox, "wait=20")
    assert answer.status_code == 201, answer.text
    assert answer.headers["preference-applied"] == "wait=20"
    told = answer.json()
    assert answer.headers["location"] == told["location"]
    assert told["status"] == "admitted"
    admitted = await stranger.watch.first(lambda it: (it.event.source, it.event.id) == (event.source, event.id))
    stands = told["stands_on"]
    assert (stands["topic"], stands["partition"], stands["key"]) == (
        admitted.topic,
        admitted.partition,
        admitted.event.subject,
    )
    assert stands.get("position") == admitted.position
    assert (await office.get(told["location"], OWNERS[inbox.name])).json() == told


async def test_who_waits_is_told_why_it_is_rejected(stranger: Stranger, office: Office) -> None:
    """422 with the reason and detail of its SubmissionRejected; its location says the same afterwards."""
    data = stranger.new_request()
    await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
    answer = await office.post(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS, "wait=20")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.headers["preference-applied"] == "wait=20"
    told = answer.json()
    assert (told["reason"], told["instance"]) == ("duplicate-request", answer.headers["location"])
    place = Place(*_parts(told["instance"]))
    rejected = (await stranger.rejection(place)).data
    assert (told["reason"], told["detail"]) == (rejected["reason"], rejected["detail"])
    found = (await office.get(told["instance"], "request")).json()
    assert (found["status"], found["reason"], found["detail"]) == ("rejected", told["reason"], told["detail"])


async def test_who_waits_no_longer_is_told_where_to_ask(stranger: Stranger, office: Office) -> None:
    """An offer waits for its request: 202 when the time has passed; pending until the request is raised."""
    data = stranger.new_request()
    offer = stranger.signed("PledgeOffered", pledge_data(data["request_id"]), "AZ")
    for prefer, seconds in ((None, None), ("wait=0", "wait=0"), ("wait=1", "wait=1")):
        answer = await office.post(offer, topics.INBOX_PLEDGES, prefer)
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
        assert answer.headers.get("preference-applied") == seconds
    location = answer.headers["location"]
    assert (await office.get(location, "pledge")).json()["status"] == "pending"
    await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
    assert (await office.settled(location, "pledge"))["status"] == "admitted"


async def test_the_same_again_is_answered_as_the_first_was(stranger: Stranger, office: Office) -> None:
    """A repetition has no effect; who sent it learns what became of the first, and where."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    first, again = [await office.post(event, topics.INBOX_REQUESTS, "wait=20") for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["repeats"] == first.headers["location"] != again.headers["location"]
    assert again.json()["stands_on"] == first.json()["stands_on"]
    refused = stranger.signed("RequestCancelled", {"request_id": "TR-2023-none", "reason": "none"})
    first, again = [await office.post(refused, topics.INBOX_REQUESTS, "wait=20") for _ in range(2)]
    assert first.json()["reason"] == again.json()["reason"] == "unknown-request"
    assert first.json()["detail"] == again.json()["detail"]


# --- by location ---


async def test_what_was_sent_over_kafka_is_told_too(stranger: Stranger, office: Office) -> None:
    """Admitted, repeated, refused by its state, by a stranger's key, and what nobody can read."""
    good = stranger.signed("RequestRaised", stranger.new_request())
    forged = stranger.signed("RequestRaised", stranger.new_request(), key=Ed25519Key.generate())
    inbox = topics.INBOX_REQUESTS
    first, again = [await stranger.put(raw(good, inbox)) for _ in range(2)]
    refusals = [
        (await stranger.put(raw(forged, inbox)), "unknown-key"),
        (await stranger.put(raw(good, inbox).without("ce_id")), "bad-envelope"),
        (await stranger.put(raw(stranger.signed("RequestRaised", {"request_id": "x"}), inbox)), "bad-data"),
    ]
    assert (await office.settled(location_of(first), "request"))["status"] == "admitted"
    repeated = await office.settled(location_of(again), "request")
    assert (repeated["status"], repeated["repeats"]) == ("admitted", location_of(first))
    for place, reason in refusals:
        rejected = (await stranger.rejection(place)).data
        found = await office.settled(location_of(place), "request")
        assert (found["status"], found["reason"], found["detail"]) == ("rejected", reason, rejected["detail"])


async def test_another_process_tells_the_same(system: Stack, stranger: Stranger, office: Office) -> None:
    """The service is killed and started again: nothing of what became of submissions was in its memory alone."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    bad = stranger.signed("RequestCancelled", {"request_id": "TR-2023-none", "reason": "none"})
    locations = [
        (await office.post(event, topics.INBOX_REQUESTS, "wait=20")).json()["location"],
        (await office.post(event, topics.INBOX_REQUESTS, "wait=20")).json()["location"],
        (await office.post(bad, topics.INBOX_REQUESTS, "wait=20")).json()["instance"],
    ]
    before = [(await office.get(location, "request")).json() for location in locations]
    assert [found["status"] for found in before] == ["admitted", "admitted", "rejected"]
    killed = office.run.pids["request"]
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.05)
            if office.run.pids.get("request", killed) != killed:
                with contextlib.suppress(httpx2.TransportError):
                    if (await office.get("/health", "request")).is_success:
                        break
    assert [(await office.get(location, "request")).json() for location in locations] == before


async def test_where_nothing_was_submitted_there_is_nothing(stranger: Stranger, office: Office) -> None:
    """404: an offset not yet written, another owner's topic, no topic at all, a partition too many; 422: no number;
    401 for whoever shows no token."""
    inbox = topics.INBOX_REQUESTS
    end = max((await stranger.ends(inbox)).values())
    for place in (
        f"{inbox.name}/3/{end + 1_000_000}",
        f"{topics.INBOX_VOTES.name}/0/0",
        f"{topics.REQUESTS.name}/0/0",
        "none/0/0",
        f"{inbox.name}/99/0",
    ):
        answer = await office.get(f"/submissions/{place}", "request")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), place
    assert (await office.get(f"/submissions/{inbox.name}/0/x", "request")).status_code == 422
    assert (await office.get(f"/submissions/{inbox.name}/0/-1", "request")).status_code == 422
    assert (await office.get(f"/submissions/{inbox.name}/0/0", "request", token="no")).status_code == 401


async def test_after_seven_days_it_says_what_it_still_knows(system: Stack, stranger: Stranger, office: Office) -> None:
    """The outbox is pruned: of an admitted one its place is not known any more, of a rejected one the detail; of what
    nobody could have signed nothing is left (410)."""
    admitted = await office.post(
        stranger.signed("RequestRaised", stranger.new_request()), topics.INBOX_REQUESTS, "wait=20"
    )
    bad = stranger.signed("RequestCancelled", {"request_id": "TR-2023-none", "reason": "none"})
    rejected = await office.post(bad, topics.INBOX_REQUESTS, "wait=20")
    forged = stranger.signed("RequestRaised", stranger.new_request(), key=Ed25519Key.generate())
    nobodys = await stranger.put(raw(forged, topics.INBOX_REQUESTS))
    assert (await office.settled(location_of(nobodys), "request"))["reason"] == "unknown-key"
    connection = await asyncpg.connect(system.service_url("request"))
    try:
        # As pruning does, only earlier.
        subject = admitted.json()["stands_on"]["key"]
        places = [rejected.json()["instance"].removeprefix("/submissions/"), str(nobodys)]
        await connection.execute("delete from outbox where key = any($1::text[])", [subject, *places])
    finally:
        await connection.close()
    found = (await office.get(admitted.json()["location"], "request")).json()
    assert found["status"] == "admitted"
    assert "stands_on" not in found
    found = (await office.get(rejected.json()["instance"], "request")).json()
    assert (found["status"], found["reason"]) == ("rejected", "unknown-request")
    gone = await office.get(location_of(nobodys), "request")
    assert (gone.status_code, gone.json()["status"]) == (410, 410)


async def test_what_was_refused_after_waiting_stays_refused(system: Stack, stranger: Stranger, office: Office) -> None:
    """An offer waits, and its request has no such need: the identity's row says so, also when the outbox is pruned."""
    data = stranger.new_request()
    offer = stranger.signed("PledgeOffered", pledge_data(data["request_id"], answers=["N9"]), "AZ")
    location = (await office.post(offer, topics.INBOX_PLEDGES, "wait=1")).headers["location"]
    await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
    reason = (await office.settled(location, "pledge"))["reason"]
    connection = await asyncpg.connect(system.service_url("pledge"))
    try:
        await connection.execute("delete from outbox where key = $1", location.removeprefix("/submissions/"))
    finally:
        await connection.close()
    found = (await office.get(location, "pledge")).json()
    assert (found["status"], found["reason"]) == ("rejected", reason)


async def test_what_fails_is_not_written_however_long_one_would_wait(stranger: Stranger, office: Office) -> None:
    """A problem is answered at once, also to those who would wait: Kafka sees nothing of it."""
    for inbox, _ in SUBMISSIONS:
        before = await stranger.ends(inbox)
        forged = stranger.signed("VoteCast", {"request_id": "TR-2023-none"}, key=Ed25519Key.generate())
        answer = await office.post(forged, inbox, "wait=20")
        assert answer.status_code == 422
        assert "preference-applied" not in answer.headers
        assert await stranger.written_since(before) == []


async def test_a_misspelt_wish_writes_nothing(stranger: Stranger, office: Office) -> None:
    """`?validate=` knows one word: another is a problem, not a submission."""
    before = await stranger.ends(topics.INBOX_REQUESTS)
    headers, body = to_http(stranger.signed("RequestRaised", stranger.new_request()))
    async with httpx2.AsyncClient() as http:
        url = f"{office.run.http['request']}/events?validate=Only"
        answer = await http.post(url, headers=headers, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert await stranger.written_since(before) == []


def _parts(location: str) -> tuple[str, int, int]:
    topic, partition, offset = location.removeprefix("/submissions/").split("/")
    return topic, int(partition), int(offset)
