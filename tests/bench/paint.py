"""From an event on a public topic to its paint on the board, in a real Chromium, at 100 events a second."""

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
from playwright.async_api import Browser, CDPSession, Page

from tests import sse
from tests.bench.figures import Figure, Side
from tests.bench.ground import Ground, Signed, new_request_ids, opened, progress
from tests.browser import chromium
from tests.conftest import pledge_data
from tests.meanwhile import meanwhile

PER_SECOND = 100
_REQUESTS = 60
"""As many as the board shows at first."""
_EVENTS_EACH = 25
_VOTERS = ("AZ", "KG", "KZ")
_WARM_UP = 100
_SETTLE_S = 3.0

# Cards change in a frame's own callback. A message that is posted there comes when the frame is done: styles, layout
# and paint too.
_WATCH = """
window.painted = [];
const behind = new MessageChannel();
behind.port1.onmessage = ({ data }) => {
    const at = performance.timeOrigin + performance.now();
    for (const [request, seq] of data) window.painted.push([request, seq, at]);
};
new MutationObserver((changes) => {
    const seen = new Map();
    for (const { target } of changes) {
        if (target.dataset?.seq) seen.set(target.dataset.key, Number(target.dataset.seq));
    }
    if (seen.size) behind.port2.postMessage([...seen]);
}).observe(document, { attributes: true, attributeFilter: ["data-seq"], subtree: true });
"""
_FIRST_PAINT = """
() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    bytes: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter((each) => !/stream|live|board|turns|me$/.test(each.name))
        .reduce((sum, each) => sum + each.transferSize, 0),
})
"""


@dataclass(frozen=True, slots=True)
class Happened:
    """A public event: its number in the stream, its request, and when the broker appended it (ms since 1970)."""

    seq: int
    request_id: str
    appended_ms: float


Seen = list[tuple[str, int, float]]
"""Cards as somebody saw them: request, number of the event, when (ms since 1970)."""


async def page_painted(ground: Ground) -> list[Figure]:
    """The page, beside a bare reader of the same stream of cards without a browser."""
    if chromium.program() is None:
        progress.print(f"page_painted is not measured: {chromium.HOW_TO_GET_IT}.")
        return []
    address, token = ground.run.dashboard or "", ground.run.token or ""
    async with (
        httpx2.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=None) as http,
        chromium.launched() as browser,
    ):
        records = await _records(ground)
        first = [await _first_paint(browser, address, token) for _ in range(5)]
        page = await (await browser.new_context(viewport={"width": 1440, "height": 960})).new_page()
        await page.add_init_script(_WATCH)
        await page.goto(f"{address}/#token={token}&/")
        await page.locator(".card").nth(_REQUESTS - 1).wait_for()
        before = (await http.get("/board", params={"limit": 1})).json()["seq"]
        meter = await page.context.new_cdp_session(page)
        await meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        idle = await _work_ms(meter)
        bare: Seen = []
        async with _reading(http, before, bare):
            progress.print(f"Painting {len(records)} events at {PER_SECOND}/s ...")
            await _send(ground, records)
            await asyncio.sleep(_SETTLE_S)
        painted: Seen = [(key, seq, at) for key, seq, at in await page.evaluate("window.painted")]
        worked = await _work_ms(meter)
        happened = await _happened(http, before, len(records))
    what = (
        f"event on a public topic (broker's append) -> the frame with it on the board is done, Chromium, "
        f"{_REQUESTS} cards, {PER_SECOND} events/s"
    )
    ours, baseline = _delays(happened, painted), _delays(happened, bare)
    more = {
        "first_paint_ms": sorted(each["paint"] for each in first)[2],
        "transfer_bytes": int(first[0]["bytes"]),
        "main_thread_ms_an_event": {
            kind: float(f"{(worked[kind] - idle[kind]) / len(records):.3g}") for kind in worked
        },
        "never_painted": len(happened) - _WARM_UP - len(ours),
    }
    goal = "p50 <= 50 ms, p99 <= 150 ms, first paint <= 1,000 ms, transfer <= 250,000 bytes"
    bare_what = "the same events, until a bare reader of GET /board/live has their card"
    return [Figure("page_painted", "ms", Side(ours, what), Side(baseline, bare_what), goal, more)]


async def _records(ground: Ground) -> list[Signed]:
    """Votes and offers on requests with an open ballot, in a random order."""
    progress.print(f"Preparing {_REQUESTS} requests ...")
    records = []
    for ballot in await opened(ground, new_request_ids(_REQUESTS)):
        records += [ground.signed(state, "VoteCast", ballot.vote(state)) for state in _VOTERS]
        for number in range(_EVENTS_EACH - len(_VOTERS)):
            data = pledge_data(ballot.request_id, f"AZ-{number}")
            records.append(ground.signed("AZ", "PledgeOffered", data))
    random.Random(ground.seed).shuffle(records)
    return records


async def _send(ground: Ground, records: Sequence[Signed]) -> None:
    begun = time.perf_counter()
    for number, record in enumerate(records):
        await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.perf_counter()))
        await ground.send(record)


async def _work_ms(meter: CDPSession) -> dict[str, float]:
    """Processor time of the page's main thread so far: in all, in scripts, in styles and layout."""
    told = {each["name"]: each["value"] for each in (await meter.send("Performance.getMetrics"))["metrics"]}
    kinds = {
        "all": "TaskDuration",
        "script": "ScriptDuration",
        "style": "RecalcStyleDuration",
        "layout": "LayoutDuration",
    }
    return {kind: 1000 * told[name] for kind, name in kinds.items()}


async def _first_paint(browser: Browser, address: str, token: str) -> dict[str, Any]:
    """Of a reader who was never here: nothing is cached."""
    async with contextlib.AsyncExitStack() as stack:
        context = await browser.new_context()
        stack.push_async_callback(context.close)
        page: Page = await context.new_page()
        await page.goto(f"{address}/#token={token}&/")
        await page.locator(".card").first.wait_for()
        found: dict[str, Any] = await page.evaluate(_FIRST_PAINT)
        return found


def _reading(http: httpx2.AsyncClient, after: int, seen: Seen) -> AbstractAsyncContextManager[None]:
    """Reads cards while the block runs."""

    async def read() -> None:
        async with http.stream("GET", "/board/live", headers={"Last-Event-ID": str(after)}) as answer:
            async for _, card in sse.events(answer):
                seen.append((card["request_id"], card["seq"], time.time() * 1000))

    return meanwhile(read())


async def _happened(http: httpx2.AsyncClient, after: int, count: int) -> list[Happened]:
    """What stands in the stream behind that number."""
    found: list[Happened] = []
    async with http.stream("GET", "/stream", headers={"Last-Event-ID": str(after)}) as answer:
        async for seq, event in sse.events(answer):
            at = datetime.fromisoformat(event["appendedtime"]).timestamp() * 1000
            found.append(Happened(seq, event["subject"], at))
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


def _delays(happened: Sequence[Happened], seen: Seen) -> list[float]:
    """Of each event behind the first ones, how long until its request's card was seen with it or a later one."""
    cards: dict[str, list[tuple[int, float]]] = {}
    for key, seq, at in seen:
        cards.setdefault(key, []).append((seq, at))
    delays = []
    for event in happened[_WARM_UP:]:
        told = [at for seq, at in cards.get(event.request_id, []) if seq >= event.seq]
        if told:
            delays.append(min(told) - event.appended_ms)
    return delays
