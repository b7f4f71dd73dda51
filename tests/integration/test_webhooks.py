"""Webhooks against real HTTP servers: signed, at least once, and none of what a target may do holds up another."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import WebhookVerificationError

from chassis.database import connect
from deploy.local.ports import free_ports
from deploy.local.stack import Stack
from qalqan.client import Client
from qalqan.runinfo import RunInfo
from services.notify.store import subscriptions
from tests.integration.receiver import Call, ok, receiving, status

Party = dict[str, Client]
Make = Callable[..., dict[str, Any]]


@pytest_asyncio.fixture
async def notify(run: RunInfo) -> AsyncIterator[httpx2.AsyncClient]:
    """Notify over HTTP, as the Secretariat."""
    headers = {"Authorization": f"Bearer {run.token}"}
    async with httpx2.AsyncClient(base_url=run.http["notify"], headers=headers, timeout=30) as client:
        yield client


@contextlib.asynccontextmanager
async def subscribed(
    notify: httpx2.AsyncClient, target: str, kind: str = "webhook", **fields: Any
) -> AsyncIterator[dict[str, Any]]:
    """A subscription for the length of the block."""
    answer = await notify.post("/subscriptions", json={"kind": kind, "target": target, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    try:
        yield made
    finally:
        await notify.delete(f"/subscriptions/{made['subscription_id']}")


def of(*requests: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A filter: these requests' RequestRaised."""
    return {"requests": [each["request_id"] for each in requests], "types": ["RequestRaised"], **more}


async def raised(states: Party, *requests: dict[str, Any]) -> None:
    """Raises requests and waits until they are admitted."""
    places = [await states["TR"].raise_request(request) for request in requests]
    for place in places:
        await states["TR"].settled(place)


async def known(notify: httpx2.AsyncClient, request: dict[str, Any]) -> None:
    """Returns when notify's stream has the request."""
    for _ in range(200):
        if (await notify.get(f"/requests/{request['request_id']}")).status_code == 200:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("notify does not learn of the request")


async def deliveries(
    notify: httpx2.AsyncClient, made: dict[str, Any], state: str, count: int, why: str = ""
) -> list[dict[str, Any]]:
    """Its deliveries in a state (and with this in their error), once there are so many."""
    for _ in range(200):
        answer = await notify.get(f"/subscriptions/{made['subscription_id']}/deliveries?state={state}")
        found = [each for each in answer.json()["items"] if why in (each["error"] or "")]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"{len(found)} instead of {count} are {state}")


async def test_an_event_is_told_at_once_and_signed(
    states: Party, new_request: Make, notify: httpx2.AsyncClient
) -> None:
    """By the library's own verifier; another secret, another body and an old time do not pass it."""
    mild = new_request()
    mild["emergency"] = {**mild["emergency"], "severity": "Minor"}
    request = new_request()
    async with receiving() as receiver:
        wanted = of(request, mild, severities=["Extreme"], modes=["test"], states=["TR"])
        async with subscribed(notify, receiver.url, filter=wanted) as made:
            await raised(states, mild, request)
            [call] = await receiver.until(lambda calls: len(calls) == 1)
            event = call.verified(made["secret"])
            assert (event["type"], event["subject"]) == ("qalqan.RequestRaised.v1", request["request_id"])
            assert call.headers["content-type"].startswith("application/cloudevents+json")
            [delivered] = await deliveries(notify, made, "delivered", 1)
            assert (delivered["attempts"], delivered["status"]) == (1, 200)
            with pytest.raises(WebhookVerificationError):
                Call(call.headers, call.body + b" ").verified(made["secret"])
            with pytest.raises(WebhookVerificationError):
                Call({**call.headers, "webhook-id": "msg_another"}, call.body).verified(made["secret"])
            shown = await notify.get(f"/subscriptions/{made['subscription_id']}")
            assert made["secret"] not in shown.text
            assert len(receiver.calls) == 1


async def test_a_target_that_fails_is_tried_again_and_one_that_is_gone_is_left_alone(
    states: Party, new_request: Make, notify: httpx2.AsyncClient
) -> None:
    """500 then 200, under the same id. 410 disables the subscription; its dead letter is replayed when it is back."""
    request = new_request()
    async with (
        receiving(status("500 No")) as failing,
        receiving(status("410 Gone")) as gone,
        subscribed(notify, failing.url, filter=of(request)) as first,
        subscribed(notify, gone.url, filter=of(request)) as second,
    ):
        await raised(states, request)
        await failing.until(lambda calls: len(calls) == 1)
        failing.reply = ok
        [dead] = await deliveries(notify, second, "dead", 1)
        assert dead["status"] == 410
        path = f"/subscriptions/{second['subscription_id']}"
        assert (await notify.get(path)).json()["status"] == "disabled"
        assert (await notify.post(f"{path}/replay", json={})).status_code == 409
        gone.reply = ok
        assert (await notify.patch(path, json={"status": "active"})).json()["status"] == "active"
        assert (await notify.post(f"{path}/replay", json={})).json() == {"count": 1, "next": None}
        once, again = await gone.until(lambda calls: len(calls) == 2)
        assert once.id == again.id
        once, again = await failing.until(lambda calls: len(calls) == 2)
        assert once.id == again.id
        assert once.id != gone.calls[0].id
        again.verified(first["secret"])
        [delivered] = await deliveries(notify, first, "delivered", 1)
        assert delivered["attempts"] == 2


async def _hang(call: Call, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _drip(call: Call, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _gigabytes(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n")
    for _ in range(4000):
        writer.write(b"x" * 1_000_000)
        await writer.drain()


async def _endless_headers(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(4000):
        writer.write(b"X-More: " + b"x" * 100_000 + b"\r\n")
        await writer.drain()


async def test_no_target_holds_up_another(
    states: Party, new_request: Make, notify: httpx2.AsyncClient, run: RunInfo
) -> None:
    """One hangs, one drips, one answers with gigabytes, one redirects to loopback, one refuses: the good one is told
    within a second, and notify stays as large as it was."""
    requests = [new_request() for _ in range(6)]
    bad = (_hang, _drip, _gigabytes, _endless_headers)
    async with contextlib.AsyncExitStack() as stack:
        good, inner = [await stack.enter_async_context(receiving()) for _ in range(2)]
        receivers = [await stack.enter_async_context(receiving(reply)) for reply in bad]
        moved = status("307 Moved", f"Location: {inner.url}")
        redirecting = await stack.enter_async_context(receiving(moved))
        urls = [good.url, *(each.url for each in receivers), redirecting.url, "http://127.0.0.1:9/nobody"]
        made = [await stack.enter_async_context(subscribed(notify, url, filter=of(*requests))) for url in urls]
        memory = _memory_kb(run.pids["notify"])
        began = time.monotonic()
        await raised(states, *requests)
        await good.until(lambda calls: len(calls) == len(requests), 5)
        assert time.monotonic() - began < 5
        assert {call.event["subject"] for call in good.calls} == {each["request_id"] for each in requests}
        # A status is the answer: what follows it is cut off.
        assert all(each["status"] == 200 for each in await deliveries(notify, made[3], "delivered", len(requests)))
        await deliveries(notify, made[5], "waiting", 1, "answered 307: a redirect, which is never followed")
        assert not inner.calls
        await deliveries(notify, made[6], "waiting", len(requests))
        await deliveries(notify, made[6], "waiting", 1, "the connection failed")
        late = await notify.post(f"/subscriptions/{made[1]['subscription_id']}/test")
        assert (late.json()["ok"], late.json()["error"]) == (False, "no answer within 5 s")
        await deliveries(notify, made[2], "waiting", 1, "no answer within 5 s")
        assert _memory_kb(run.pids["notify"]) - memory < 30_000


def _memory_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_a_secret_is_rotated_without_a_gap(states: Party, new_request: Make, notify: httpx2.AsyncClient) -> None:
    """Both secrets verify what is sent afterwards."""
    request = new_request()
    async with receiving() as receiver, subscribed(notify, receiver.url, filter=of(request)) as made:
        answer = await notify.post(f"/subscriptions/{made['subscription_id']}/rotate")
        assert answer.json()["secret"] != made["secret"]
        await asyncio.sleep(1.2)  # within a second the dispatcher knows
        await raised(states, request)
        [call] = await receiver.until(lambda calls: len(calls) == 1)
        assert len(call.headers["webhook-signature"].split(" ")) == 2
        call.verified(made["secret"])
        call.verified(answer.json()["secret"])


async def test_a_trial_says_what_the_target_answered(notify: httpx2.AsyncClient) -> None:
    async with receiving(status("418 Teapot")) as receiver, subscribed(notify, receiver.url) as made:
        answer = (await notify.post(f"/subscriptions/{made['subscription_id']}/test")).json()
        assert (answer["ok"], answer["status"], answer["error"]) == (False, 418, "answered 418")
        receiver.reply = ok
        answer = (await notify.post(f"/subscriptions/{made['subscription_id']}/test")).json()
        assert (answer["ok"], answer["status"], answer["answer"]) == (True, 200, "ok")
        assert [call.verified(made["secret"])["type"] for call in receiver.calls] == ["qalqan.trial.v1"] * 2


async def test_what_happened_before_is_told_on_demand(
    states: Party, new_request: Make, notify: httpx2.AsyncClient
) -> None:
    """A subscription is told from now on; a replay tells the past, whatever was told before under the same id."""
    before, after = new_request(), new_request()
    await raised(states, before)
    await known(notify, before)
    async with receiving() as receiver, subscribed(notify, receiver.url, filter=of(before, after)) as made:
        await raised(states, after)
        [first] = await receiver.until(lambda calls: len(calls) == 1)
        assert first.event["subject"] == after["request_id"]
        [delivered] = await deliveries(notify, made, "delivered", 1)
        replay = {"after": 0}
        path = f"/subscriptions/{made['subscription_id']}/replay"
        counted = []
        while replay["after"] is not None:
            answer = (await notify.post(path, json=replay)).json()
            counted.append(answer["count"])
            replay = {"after": answer["next"]}
        assert sum(counted) == 2
        await receiver.until(lambda calls: len(calls) == 3)
        assert {call.event["subject"] for call in receiver.calls[1:]} == {before["request_id"], after["request_id"]}
        assert first.id in {call.id for call in receiver.calls[1:]}
        assert delivered["number"]


async def test_a_turn_is_told_to_its_state(states: Party, new_request: Make, notify: httpx2.AsyncClient) -> None:
    """A ballot opens: KZ is told that it is its turn, once, and nobody who did not ask for turns."""
    request = new_request()
    wanted = {"requests": [request["request_id"]], "types": ["turn"], "states": ["KZ"]}
    async with receiving() as receiver, subscribed(notify, receiver.url, filter=wanted) as made:
        await raised(states, request)
        [call] = await receiver.until(lambda calls: len(calls) == 1)
        event = call.verified(made["secret"])
        assert (event["type"], event["turn"], event["mode"]) == ("qalqan.TurnTold.v1", "KZ", "test")
        assert (event["data"]["kind"], event["data"]["level"]) == ("vote", 0)
        [delivered] = await deliveries(notify, made, "delivered", 1)
        assert delivered["kind"] == "announcement"


async def test_what_waited_for_a_day_is_dead_until_it_is_replayed(
    states: Party, new_request: Make, notify: httpx2.AsyncClient, system: Stack
) -> None:
    """The target refuses for a day (the database's clock is moved for it), and is there again for the replay."""
    request, [port] = new_request(), free_ports(1)
    async with subscribed(notify, f"http://127.0.0.1:{port}/hook", filter=of(request)) as made:
        await raised(states, request)
        [waiting] = await deliveries(notify, made, "waiting", 1)
        pool = await connect(system.service_url("notify"), "a day later")
        try:
            await pool.execute(
                "update delivery set due_since = now() - interval '25 hours', due_at = now() + interval '1 hour' "
                "where subscription_id = $1",
                made["subscription_id"],
            )
            assert await subscriptions.tidy(pool) == 1
        finally:
            await pool.close()
        [dead] = await deliveries(notify, made, "dead", 1)
        assert (dead["number"], dead["error"]) == (waiting["number"], waiting["error"])
        async with receiving(port=port) as receiver:
            answer = await notify.post(f"/subscriptions/{made['subscription_id']}/replay", json={})
            assert answer.json() == {"count": 1, "next": None}
            [call] = await receiver.until(lambda calls: len(calls) == 1)
            assert call.verified(made["secret"])["subject"] == request["request_id"]


async def test_a_kill_of_notify_loses_nothing(
    states: Party, new_request: Make, notify: httpx2.AsyncClient, system: Stack
) -> None:
    """kill -9 twice in the midst: every event comes, at least once, and a repetition has the same id."""
    requests = [new_request() for _ in range(40)]
    async with receiving() as receiver, subscribed(notify, receiver.url, filter=of(*requests)) as made:
        for number, request in enumerate(requests):
            await states["TR"].raise_request(request)
            if number in (12, 28):
                os.kill(RunInfo.load(system.home / "run.json").pids["notify"], signal.SIGKILL)
            await asyncio.sleep(0.05)
        wanted = {each["request_id"] for each in requests}
        calls = await receiver.until(lambda calls: {call.event["subject"] for call in calls} == wanted, 30)
        ids: dict[str, set[str]] = {}
        for call in calls:
            ids.setdefault(call.verified(made["secret"])["subject"], set()).add(call.id)
        assert all(len(found) == 1 for found in ids.values())
        assert len({each for found in ids.values() for each in found}) == len(requests)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("https://10.1.2.3/", "no public address"),
        ("https://169.254.169.254/latest/meta-data", "no public address"),
        ("https://100.64.0.1/", "no public address"),
        ("https://[::ffff:10.0.0.1]/", "no public address"),
        ("https://[64:ff9b::a00:1]/", "no public address"),
        ("https://[fe80::1]/", "no public address"),
        ("https://224.0.0.1/", "no public address"),
        ("https://0x0a000001/", "no public address"),
        ("https://user:word@example.org/", "user or a password"),
        ("ftp://example.org/", "https://"),
        ("https://nobody.invalid/", "does not resolve"),
        ("https://example.org/" + "x" * 2_000, "at most 2000"),
    ],
)
async def test_where_a_webhook_may_not_go(notify: httpx2.AsyncClient, target: str, why: str) -> None:
    answer = await notify.post("/subscriptions", json={"kind": "webhook", "target": target})
    assert answer.status_code == 422
    assert why in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
