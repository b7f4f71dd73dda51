"""Whose subscriptions are whose, and how many there may be; what becomes of them when a token is revoked."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest_asyncio
from fastapi import FastAPI

from chassis.follower import Follower
from chassis.problems import answer_with_problems
from chassis.tokens import Tokens
from deploy.local.stack import Stack
from qalqan.access import Access
from qalqan.registry import Root
from qalqan.runinfo import RunInfo
from services.notify.api.subscriptions import subscriptions_router
from services.notify.board import Board
from services.notify.delivery.delivery import Delivery
from services.notify.settings import DeliverySettings
from services.notify.stream import Stream
from tests.integration.receiver import receiving
from tests.integration.test_tokens import made as made_token
from tests.integration.test_tokens import shows, token
from tests.integration.test_webhooks import Make, Party, deliveries, notify, of, raised, subscribed

__all__ = ["notify"]  # a fixture


@pytest_asyncio.fixture
async def http(run: RunInfo) -> AsyncIterator[httpx2.AsyncClient]:
    """Notify over HTTP, without a token."""
    async with httpx2.AsyncClient(base_url=run.http["notify"], timeout=30) as client:
        yield client


async def holder(
    system: Stack, http: httpx2.AsyncClient, role: str, state: str | None = None, name: str = "duty desk"
) -> dict[str, str]:
    """The header of a new token, once notify knows it."""
    header = shows(await made_token(system, role, state, name))
    for _ in range(100):
        if (await http.get("/me", headers=header)).status_code == 200:
            return header
        await asyncio.sleep(0.05)
    raise AssertionError("notify does not learn of the token")


async def test_each_sees_its_own(system: Stack, http: httpx2.AsyncClient, notify: httpx2.AsyncClient) -> None:
    """A state's operators share theirs, an integrator has its own, the Secretariat all; to others there is none."""
    kz = await holder(system, http, "operator", "KZ")
    kz_too = await holder(system, http, "operator", "KZ", "night shift")
    az = await holder(system, http, "operator", "AZ")
    firm = await holder(system, http, "integrator", name="map maker")
    firm_of_kz = await holder(system, http, "integrator", "KZ", name="map maker")
    observer = await holder(system, http, "observer")
    new = {"kind": "webhook", "target": "http://127.0.0.1:9/", "filter": {"types": ["KeyRevoked"]}}
    answer = await http.post("/subscriptions", json=new, headers=kz)
    assert answer.status_code == 201
    path = answer.headers["location"]
    assert (answer.json()["owner"], answer.json()["created_by"]) == ("state KZ", "duty desk")
    assert (await http.get(path, headers=kz_too)).status_code == 200
    assert (await notify.get(path)).status_code == 200
    for other in (az, firm, firm_of_kz):
        calls = [
            http.get(path, headers=other),
            http.patch(path, json={"name": "mine"}, headers=other),
            http.delete(path, headers=other),
            http.post(f"{path}/test", headers=other),
            http.post(f"{path}/rotate", headers=other),
            http.get(f"{path}/deliveries", headers=other),
            http.post(f"{path}/replay", json={}, headers=other),
        ]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {404}
        assert (await http.get("/subscriptions", headers=other)).json()["items"] == []
    assert (await http.post("/subscriptions", json=new, headers=observer)).status_code == 403
    assert (await http.get("/subscriptions", headers=observer)).status_code == 403
    assert (await http.get("/subscriptions")).status_code == 401
    assert [each["subscription_id"] for each in (await http.get("/subscriptions", headers=kz)).json()["items"]] == [
        path.rpartition("/")[2]
    ]
    theirs = (await http.post("/subscriptions", json=new, headers=firm)).headers["location"]
    assert (await http.get(theirs, headers=firm)).status_code == 200
    assert (await http.get(theirs, headers=firm_of_kz)).status_code == 404
    assert (await notify.delete(theirs)).status_code == 204
    assert (await http.delete(path, headers=kz_too)).status_code == 204
    assert (await notify.get(path)).status_code == 404


async def test_a_revoked_integrator_is_told_nothing_more_and_goes_on_with_a_new_token(
    system: Stack, http: httpx2.AsyncClient, notify: httpx2.AsyncClient, states: Party, new_request: Make
) -> None:
    before, meanwhile = new_request(), new_request()
    shown = await holder(system, http, "integrator", name="weather service")
    async with receiving() as receiver:
        new = {"kind": "webhook", "target": receiver.url, "filter": of(before, meanwhile)}
        answer = await http.post("/subscriptions", json=new, headers=shown)
        assert answer.status_code == 201
        made = answer.json()
        await raised(states, before)
        await receiver.until(lambda calls: len(calls) == 1)
        await deliveries(notify, made, "delivered", 1)
        assert token(system.home, "revoke", shown["authorization"].split("_")[1]).exit_code == 0
        await asyncio.sleep(2.5)  # within a second the file is read again, within another it acts
        await raised(states, meanwhile)
        await asyncio.sleep(1)
        assert len(receiver.calls) == 1
        await holder(system, http, "integrator", name="weather service")
        first, second = await receiver.until(lambda calls: len(calls) == 2)
        assert (first.event["subject"], second.event["subject"]) == (before["request_id"], meanwhile["request_id"])
        await notify.delete(f"/subscriptions/{made['subscription_id']}")


async def test_what_makes_no_sense_is_refused(notify: httpx2.AsyncClient) -> None:
    async def detail(**fields: object) -> str:
        new = {"kind": "webhook", "target": "http://127.0.0.1:9/", **fields}
        answer = await notify.post("/subscriptions", json=new)
        assert answer.status_code == 422
        return str(answer.json()["detail"])

    assert "no event has the type 'Vote'" in await detail(filter={"types": ["Vote"]})
    assert "filter.severity" in await detail(filter={"severity": ["Extreme"]})
    assert "digests are for e-mail" in await detail(digest_minutes=60)
    assert "valid integer" in await detail(kind="email", target="a@b.example", digest_minutes="60")
    assert "1440" in await detail(kind="email", target="a@b.example", digest_minutes=1_441)
    async with subscribed(notify, "a@b.example", "email") as letter:
        path = f"/subscriptions/{letter['subscription_id']}"
        assert (await notify.post(f"{path}/rotate")).status_code == 409
        assert (await notify.patch(path, json={"target": "https://example.org/"})).status_code == 422
        changed = await notify.patch(path, json={"digest_minutes": 60, "name": "night"})
        assert (changed.json()["digest_minutes"], changed.json()["name"]) == (60, "night")


async def test_without_a_mail_server_there_is_no_email() -> None:
    """409, in words; nothing needs to be connected to say so."""
    pool = asyncpg.create_pool("postgresql://127.0.0.1:0")  # connects when it is awaited, which it is not
    stream, tokens = Stream(pool), Tokens(None, "word")
    board = Board(pool, stream, Follower(Access(bootstrap_servers="127.0.0.1:0"), "one", Root(network="x", keys=[])))
    settings = DeliverySettings(QALQAN_SMTP_URL=None)  # type: ignore[call-arg]
    delivery = Delivery(pool, stream, board, tokens, "qalqan://x/services/notify", "one", settings)
    app = FastAPI()
    answer_with_problems(app)
    app.include_router(subscriptions_router(pool, delivery, tokens))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://notify") as client:
        new = {"kind": "email", "target": "a@b.example"}
        answer = await client.post("/subscriptions", json=new, headers=shows("word"))
    delivery.close()
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json()["detail"] == "this network sends no e-mail: its operator has named no mail server"
