"""Reading over HTTP: what each service shows is what stands on its topics; pages, filters, ETags, the token."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from chassis.reading import Reads, Where
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.certificate import verify_certificate
from qalqan.jsontext import digest
from qalqan.registry import Root
from qalqan.runinfo import RunInfo
from qalqan.signing import Ed25519Key
from services.request import store
from tests.conftest import STATES
from tests.integration.stranger import PATIENCE_S, Stranger

LISTS = [
    ("request", "/requests"),
    ("consensus", "/ballots"),
    ("pledge", "/pledges"),
    ("pledge", "/mobilizations"),
    ("secretariat", "/members"),
    ("secretariat", "/keys"),
]


class Reader:
    """A reader with the token."""

    def __init__(self, run: RunInfo, http: httpx2.AsyncClient) -> None:
        self._run = run
        self._http = http

    async def get(self, service: str, path: str, **headers: str) -> httpx2.Response:
        """The answer of a service."""
        shown = {"authorization": f"Bearer {self._run.token}", **headers}
        return await self._http.get(f"{self._run.http[service]}{path}", headers=shown)

    async def one(self, service: str, path: str) -> dict[str, Any]:
        """A thing that is there."""
        answer = await self.get(service, path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def all(self, service: str, path: str) -> list[dict[str, Any]]:
        """Every page, by its `Link`."""
        items: list[dict[str, Any]] = []
        following: str | None = path
        while following is not None:
            answer = await self.get(service, following)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            items += page["items"]
            link = re.fullmatch(r'<(/[^>]*)>; rel="next"', answer.headers.get("link", ""))
            following = link[1] if link else None
            assert (following is None) == (page["next"] is None)
        return items


@pytest_asyncio.fixture(scope="module")
async def reader(stranger: Stranger) -> AsyncIterator[Reader]:
    """A reader with the token."""
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        yield Reader(stranger.run, http)


@pytest_asyncio.fixture(scope="module")
async def decided(stranger: Stranger) -> str:
    """A request, two pledges (one accepted), a decision, a mobilisation."""
    request_id = await stranger.raised()
    await stranger.offered(request_id, "AZ-1")
    await stranger.offered(request_id, "KZ-1", quantity=2, channel="bilateral")
    accepted = {"request_id": request_id, "pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 3}
    await stranger.admit(stranger.signed("PledgeAccepted", accepted), topics.INBOX_PLEDGES)
    for state in ("AZ", "KG", "KZ", "UZ"):
        await stranger.voted(request_id, state)
    await stranger.stated("MobilizationAuthorized", request_id)
    return request_id


# --- what is shown ---


async def test_a_request_with_its_content(stranger: Stranger, reader: Reader) -> None:
    """As raised; as amended; as closed."""
    data = stranger.new_request()
    path = f"/requests/{data['request_id']}"
    await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
    found = await reader.one("request", path)
    assert (found["affected_state"], found["mode"], found["status"], found["revision"]) == ("TR", "test", "open", 1)
    (need,), (asked,) = found["content"]["needs"], data["needs"]
    assert need.pop("deliver_to").items() >= asked["deliver_to"].items()
    assert need.items() >= {name: value for name, value in asked.items() if name != "deliver_to"}.items()
    assert found["content"]["emergency"]["title"] == "Kahramanmaraş earthquakes"
    amended = {**data, "revision": 2, "text": "more"}
    await stranger.admit(stranger.signed("RequestAmended", amended), topics.INBOX_REQUESTS)
    found = await reader.one("request", path)
    assert (found["revision"], found["content"]["text"]) == (2, "more")
    closed = {"request_id": data["request_id"], "reason": "enough"}
    await stranger.admit(stranger.signed("RequestClosed", closed), topics.INBOX_REQUESTS)
    assert (await reader.one("request", path))["status"] == "closed"


async def test_a_ballot_its_votes_and_its_certificate(stranger: Stranger, reader: Reader, decided: str) -> None:
    """The record has the id as its digest; the certificate is the closing event's, and convinces a stranger."""
    (ballot,) = await reader.all("consensus", f"/requests/{decided}/ballots")
    opened = await stranger.stated("BallotOpened", decided)
    reached = await stranger.stated("ConsensusReached", decided)
    assert ballot["ballot_id"] == opened.data["ballot_id"]
    assert ballot["ballot"] == opened.data["ballot"]
    assert (ballot["outcome"], ballot["decided_at"]) == ("reached", reached.data["decided_at"])
    assert {vote["state"]: vote["position"] for vote in ballot["votes"]} == {
        state: position for state, position in reached.data["tally"].items() if state != "TR"
    }
    path = f"/ballots/{ballot['ballot_id']}"
    assert await reader.one("consensus", path) == ballot
    certificate = await reader.get("consensus", f"{path}/certificate")
    assert digest(certificate.content) == reached.data["decision_digest"] == ballot["decision_digest"]
    assert certificate.json() == reached.data["certificate"]
    assert verify_certificate(certificate.json(), Root.load(stranger.run.root)) == []


async def test_a_former_ballot_stays(stranger: Stranger, reader: Reader) -> None:
    """An amendment supersedes the open ballot: both are there, and the first has its certificate."""
    data = stranger.new_request()
    await stranger.admit(stranger.signed("RequestRaised", data), topics.INBOX_REQUESTS)
    await stranger.voted(data["request_id"], "KZ")
    first = (await stranger.stated("BallotOpened", data["request_id"])).data["ballot_id"]
    open_one = await reader.get("consensus", f"/ballots/{first}/certificate")
    assert (open_one.status_code, open_one.headers["content-type"]) == (409, "application/problem+json")
    amended = {**data, "revision": 2, "text": "more"}
    await stranger.admit(stranger.signed("RequestAmended", amended), topics.INBOX_REQUESTS)
    superseded = await stranger.stated("BallotSuperseded", data["request_id"])
    await stranger.watch.first(
        lambda it: (
            it.name == "BallotOpened" and it.event.subject == data["request_id"] and it.data["ballot_id"] != first
        )
    )
    old, new = await reader.all("consensus", f"/requests/{data['request_id']}/ballots")
    assert (old["ballot_id"], old["outcome"], new["outcome"]) == (first, "superseded", None)
    assert [vote["state"] for vote in old["votes"]] == ["KZ"]
    assert new["ballot"]["revision"] == 2
    assert await reader.one("consensus", f"/ballots/{first}") == old
    certificate = await reader.get("consensus", f"/ballots/{first}/certificate")
    assert digest(certificate.content) == superseded.data["decision_digest"]


async def test_pledges_and_the_mobilisation(stranger: Stranger, reader: Reader, decided: str) -> None:
    """Offers, what was accepted of them, and the plan as last stated on its topic."""
    first, second = await reader.all("pledge", f"/pledges?request={decided}")
    assert (first["pledge_id"], first["stage"], first["accepted"], first["mode"]) == ("AZ-1", "accepted", 3, "test")
    assert (second["pledge_id"], second["stage"], second["offer"]["channel"]) == ("KZ-1", "offered", "bilateral")
    assert await reader.one("pledge", f"/pledges/{decided}/AZ-1") == first
    plan = await reader.one("pledge", f"/mobilizations/{decided}")
    stated = [
        message.data
        for message in await stranger.client.read([topics.MOBILIZATIONS], decided)
        if message.name.startswith("Mobilization")
    ]
    assert plan == stated[-1]
    assert [line["pledge_id"] for line in plan["lines"]] == ["AZ-1"]


async def test_members_and_keys(stranger: Stranger, reader: Reader) -> None:
    """The register: each state's latest registration, every key, and whether it was revoked."""
    members = await reader.all("secretariat", "/members")
    assert {member["state"] for member in members} >= set(STATES)
    assert {member["state"] for member in await reader.all("secretariat", "/members?status=observer")} == {
        member["state"] for member in members if member["status"] == "observer"
    }
    (kz,) = [member for member in members if member["state"] == "KZ"]
    assert await reader.one("secretariat", "/members/KZ") == kz
    key = await stranger.register_key("KZ", ["vote"], Ed25519Key.generate())
    found = await reader.one("secretariat", f"/keys/{key.key_id}")
    assert (found["source"].rpartition("/")[2], found["scopes"], found["revoked"]) == ("KZ", ["vote"], None)
    await stranger.revoke_key(key.key_id)
    found = await reader.one("secretariat", f"/keys/{key.key_id}")
    assert found["revoked"] == "the device was lost"
    assert found in await reader.all("secretariat", f"/keys?source={found['source']}&revoked=true")
    assert found not in await reader.all("secretariat", "/keys?revoked=false")
    serials = [each["serial"] for each in await reader.all("secretariat", "/keys?limit=3")]
    assert serials == sorted(set(serials))


# --- how it is shown ---


async def test_pages_show_each_once(stranger: Stranger, reader: Reader) -> None:
    """Whatever the size of a page: all of them, in one order, none twice."""
    ids = {await stranger.raised() for _ in range(5)}
    whole = [each["request_id"] for each in await reader.all("request", "/requests?limit=500")]
    assert ids <= set(whole)
    assert len(set(whole)) == len(whole)
    for limit in (1, 2, 3) if len(whole) < 100 else (7, 50):
        assert [each["request_id"] for each in await reader.all("request", f"/requests?limit={limit}")] == whole


async def test_a_page_may_end_within_a_request(stranger: Stranger, reader: Reader) -> None:
    """Pledges of one request over several pages, filtered too."""
    request_id = await stranger.raised()
    for number in range(1, 6):
        await stranger.offered(request_id, f"AZ-{number}", channel="bilateral" if number % 2 else "mechanism")
    for limit in (1, 2, 3):
        found = await reader.all("pledge", f"/pledges?request={request_id}&limit={limit}")
        assert [each["pledge_id"] for each in found] == [f"AZ-{number}" for number in range(1, 6)]
        odd = await reader.all("pledge", f"/pledges?request={request_id}&limit={limit}&channel=bilateral")
        assert [each["pledge_id"] for each in odd] == ["AZ-1", "AZ-3", "AZ-5"]


async def test_a_page_looks_through_so_much_and_no_more(system: Stack, stranger: Stranger) -> None:
    """What is rare among many is found over several pages, some of them empty; none is left out."""
    rare = await stranger.raised(mode="exercise")
    for _ in range(5):
        await stranger.raised()
    async with asyncpg.create_pool(system.service_url("request"), min_size=1, max_size=1) as pool:
        reads = Reads(pool, store.join, looks_through=3)
        found: list[str] = []
        sizes, cursor = [], None
        while True:
            page, cursor = await reads.page(
                Where({}), lambda it: [it.request_id], 2, cursor, lambda request_id: request_id == rare
            )
            found += page
            sizes.append(len(page))
            if cursor is None:
                break
    assert found == [rare]
    assert sizes.count(0) >= 1


async def test_filters_take_what_fits(stranger: Stranger, reader: Reader, decided: str) -> None:
    """By state, mode, status, stage, outcome, and whether it is open."""
    exercise, cancelled = await stranger.raised(mode="exercise"), await stranger.raised()
    await stranger.stated("BallotOpened", exercise)
    end = {"request_id": cancelled, "reason": "enough"}
    await stranger.admit(stranger.signed("RequestCancelled", end), topics.INBOX_REQUESTS)
    await stranger.stated("BallotWithdrawn", cancelled)

    async def ids(service: str, path: str) -> set[str]:
        return {each["request_id"] for each in await reader.all(service, path)} & {decided, exercise, cancelled}

    assert await ids("request", "/requests?state=TR") == {decided, exercise, cancelled}
    assert await ids("request", "/requests?state=KZ") == set()
    assert await ids("request", "/requests?mode=exercise") == {exercise}
    assert await ids("request", "/requests?status=cancelled") == {cancelled}
    assert await ids("request", "/requests?open=true&mode=test") == {decided}
    assert await ids("request", "/requests?open=false") == {cancelled}
    assert await ids("consensus", "/ballots?open=true") == {exercise}
    assert await ids("consensus", "/ballots?outcome=withdrawn") == {cancelled}
    assert await ids("consensus", "/ballots?open=false&state=TR") == {decided, cancelled}
    assert await ids("pledge", "/pledges?stage=accepted&state=AZ&mode=test") == {decided}
    assert await ids("pledge", "/pledges?state=TR") == set()
    assert await ids("pledge", "/mobilizations?mode=test") == {decided}
    assert await ids("pledge", "/mobilizations?mode=actual") == set()


async def test_what_has_not_changed_is_not_sent_again(stranger: Stranger, reader: Reader) -> None:
    """A strong ETag, of the content: 304 until it changes, on a list and on a thing."""
    request_id = await stranger.raised()
    for path in (f"/requests/{request_id}", "/requests?limit=500&mode=test"):
        first = await reader.get("request", path)
        tag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
        for held in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = await reader.get("request", path, **{"if-none-match": held})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await reader.get("request", path, **{"if-none-match": '"other"'})).status_code == 200
    end = {"request_id": request_id, "reason": "enough"}
    tag = (await reader.get("request", f"/requests/{request_id}")).headers["etag"]
    await stranger.admit(stranger.signed("RequestClosed", end), topics.INBOX_REQUESTS)
    changed = await reader.get("request", f"/requests/{request_id}", **{"if-none-match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "closed")


@pytest.mark.parametrize(("service", "path"), LISTS)
async def test_reading_is_for_those_who_show_the_token(run: RunInfo, service: str, path: str) -> None:
    """401 before anything else, also before what is asked is looked at."""
    async with httpx2.AsyncClient() as http:
        for query in ("", "?limit=x"):
            for shown in ({}, {"authorization": "Bearer no"}, {"authorization": f"Basic {run.token}"}):
                answer = await http.get(f"{run.http[service]}{path}{query}", headers=shown)
                check_problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("service", "path"), LISTS)
async def test_what_cannot_be_asked_is_a_problem(reader: Reader, service: str, path: str) -> None:
    """FastAPI's own complaints too: 422 as RFC 9457 has it, and 405."""
    for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=W10", "cursor=%00"):
        check_problem(await reader.get(service, f"{path}?{query}"), 422)


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("request", "/requests/TR-2023-none"),
        ("consensus", "/requests/TR-2023-none/ballots"),
        ("consensus", f"/ballots/sha256:{'0' * 64}"),
        ("consensus", f"/ballots/sha256:{'0' * 64}/certificate"),
        ("pledge", "/pledges/TR-2023-none/AZ-1"),
        ("pledge", "/mobilizations/TR-2023-none"),
        ("secretariat", "/members/XX"),
        ("secretariat", f"/keys/{'0' * 64}"),
    ],
)
async def test_what_is_not_there_is_a_problem(reader: Reader, service: str, path: str) -> None:
    """404, and what is none."""
    check_problem(await reader.get(service, path), 404)


def check_problem(answer: httpx2.Response, status: int) -> None:
    """A problem of that status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = json.loads(answer.content)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
