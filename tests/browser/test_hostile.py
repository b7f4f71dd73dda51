"""Whatever a state writes is text: it runs nothing, turns nothing around, and breaks no layout."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from qalqan.client import Submission
from tests.browser.acts import card, raised, section
from tests.browser.conftest import DESK, PHONE, Open
from tests.conftest import Party, pledge_data, request_data

HOSTILE = {
    "markup": (
        '"><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"><svg onload="window.hacked = 1">'
        "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe><style>*{display:none}</style>"
        "<a href=javascript:window.hacked=1>{{7*7}} ${7*7}</a><base href=//evil.example/><!--"
    ),
    "turned": "\u202e\u2067\u2066\u200fمرحبا \u202dabc\u202c שלום <b>\u202e" * 8,
    "endless": "W" * 20_000,
    "marked": ("Z" + "\u0301\u0316\u0321" * 60) * 12,
    "pictures": "👩‍👩‍👧‍👦🏳️‍🌈🇹🇷👩🏿‍🚒" * 60,
    "lines": "one\n\ttwo\r\n\u2028three\v\f" * 400,
}
LIMIT = 20_000
OPEN_ALL = "for (const each of document.querySelectorAll('main [data-opens][aria-expanded=false]')) each.click()"


async def written_everywhere(states: Party, request_id: str, text: str) -> None:
    """A request in whose every free field this stands, and a pledge, votes, answers and reports on it."""
    text = text[:LIMIT]
    place = {"name": text, "country": "TR"}
    mandate = {"authority": text, "act": text}
    data = request_data(request_id)
    data["emergency"] |= {"kind": text, "title": text, "place": place}
    data["needs"][0] |= {"deliver_to": place, "text": text}
    data |= {"text": text, "language": text, "mandate": mandate}
    tr, az, kz = states["TR"], states["AZ"], states["KZ"]
    ballot = await raised(states, data)
    pledge = pledge_data(request_id, origin=place | {"country": "AZ"}, cost_borne_by=text, conditions=text, text=text)
    pledge |= {"mandate": mandate, "package": {"support_needed": text}}
    at = "2023-02-06T09:00:00Z"

    async def settled(client: Any, sent: Submission) -> None:
        await client.settled(sent)

    await settled(az, await az.pledge(pledge))
    await settled(az, await az.pledge(pledge | {"pledge_id": "AZ-2"}))
    await settled(tr, await tr.accept(request_id, "AZ-1", 2))
    await settled(tr, await tr.decline(request_id, "AZ-2", text))
    await settled(kz, await kz.vote(ballot, "object", reason=text, declaration=text, reservation=text))
    await settled(states["KG"], await states["KG"].vote(ballot, "constructive-abstain", declaration=text))
    await settled(az, await az.depart(request_id, "AZ-1", 2, at, place=place))
    # Rejected, with a hostile original: the state of a vote that is not the signer's.
    await az.submit("VoteCast", vote_of_another(ballot.ballot_id, request_id, text))


def vote_of_another(ballot_id: str, request_id: str, text: str) -> dict[str, Any]:
    """KZ's vote, as AZ would have it."""
    vote = {"request_id": request_id, "ballot_id": ballot_id, "round": 1, "state": "KZ", "sequence": 9}
    return vote | {"position": "object", "reason": text}


@pytest.fixture(scope="module")
def asked() -> dict[str, str]:
    """The requests that were made, by kind of text: made once."""
    return {}


async def hostile_requests(states: Party, asked: dict[str, str], new_request: Callable[..., dict[str, Any]]) -> None:
    """Makes them, all at once."""
    if not asked:
        asked |= {kind: new_request()["request_id"] for kind in HOSTILE}
        await asyncio.gather(*(written_everywhere(states, asked[kind], text) for kind, text in HOSTILE.items()))


async def test_hostile_text_stays_text_on_the_board(
    open_page: Open, states: Party, new_request: Callable[..., dict[str, Any]], asked: dict[str, str]
) -> None:
    """Every card is where it belongs, no taller than any other could be, and shows what was written."""
    await hostile_requests(states, asked, new_request)
    page = await open_page()
    await page.get_by_label("Mode").select_option("test")
    for size in (DESK, PHONE):
        await sized(page, size)
        for kind, request_id in asked.items():
            shown = card(page, request_id)
            await shown.scroll_into_view_if_needed()
            title = await shown.get_by_role("heading", level=2).evaluate("element => element.textContent")
            assert title == HOSTILE[kind][:LIMIT]
            box = await shown.bounding_box()
            assert box is not None
            assert box["height"] < 620, f"{kind} breaks the card"
        await nothing_ran(page, size)


async def test_hostile_text_stays_text_in_a_request(
    open_page: Open, states: Party, new_request: Callable[..., dict[str, Any]], asked: dict[str, str]
) -> None:
    """Closed and opened, as the texts of all its parts."""
    await hostile_requests(states, asked, new_request)
    page = await open_page()
    for kind, request_id in asked.items():
        await sized(page, DESK)
        await page.evaluate("hash => { location.hash = hash }", f"#/requests/{request_id}")
        await expect(section(page, "Events").locator(".event")).to_have_count(9)
        texts = await page.locator("main bdi.written").evaluate_all("found => found.map(each => each.textContent)")
        assert texts.count(HOSTILE[kind][:LIMIT]) >= 10, f"{kind} is not shown as it was written"
        for size in (DESK, PHONE):
            await sized(page, size)
            height = await page.locator(".request .head").evaluate("element => element.offsetHeight")
            assert height < 1_100, f"{kind} breaks the head"
            await nothing_ran(page, size)
        await page.evaluate(OPEN_ALL)
        await expect(page.locator("main [data-opens][aria-expanded=false]")).to_have_count(0)
        await nothing_ran(page, PHONE)


async def sized(page: Page, size: tuple[int, int]) -> None:
    """Gives the window a size."""
    await page.set_viewport_size({"width": size[0], "height": size[1]})


async def test_hostile_text_stays_text_in_a_rejection(
    open_page: Open, states: Party, new_request: Callable[..., dict[str, Any]], asked: dict[str, str]
) -> None:
    """The original is shown as it came."""
    await hostile_requests(states, asked, new_request)
    page = await open_page("/streams")
    rejection = page.locator(".rejection", has_text="bad-data").first
    await rejection.get_by_role("button", name="Original").click()
    await expect(rejection.locator("pre").last).to_contain_text("reason")
    await nothing_ran(page, DESK)


async def nothing_ran(page: Page, size: tuple[int, int]) -> None:
    """No script of theirs, no element of theirs, no scrolling sideways."""
    assert await page.evaluate("window.hacked") is None
    theirs = "script, img, iframe, style, base, object, embed, form:not(.filters), a[href^='javascript']"
    assert await page.locator(f"main :is({theirs})").count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert await page.evaluate("getComputedStyle(document.body).direction") == "ltr"
