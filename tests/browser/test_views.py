"""Each view shows what really happens, as it happens."""

from collections.abc import Callable
from typing import Any

import httpx2
from playwright.async_api import expect

from deploy.local.stack import Stack
from qalqan.client import Ballot
from qalqan.runinfo import RunInfo
from tests.browser.acts import card, pledged, raised, section, voted
from tests.browser.conftest import Open
from tests.conftest import Party
from tests.integration.test_tokens import becomes, made, token

Made = Callable[..., dict[str, Any]]


async def test_the_board_follows_a_request(open_page: Open, states: Party, new_request: Made) -> None:
    """Votes, coverage, what waits and for whom, each as it changes; a test is marked in word and title."""
    page = await open_page()
    data = new_request()
    request_id = data["request_id"]
    await page.get_by_label("Mode").select_option("test")
    ballot = await raised(states, data)
    shown = card(page, request_id)
    await expect(shown.get_by_role("heading", level=2)).to_have_text(data["emergency"]["title"])
    await expect(shown.locator(".strip")).to_have_text("Test")
    await expect(page).to_have_title("TEST · Now · Qalqan")
    await expect(page.locator(".banner")).to_have_text("Test: no emergency has happened")
    await expect(shown).to_contain_text("1 of 5")
    await expect(shown.locator(".waits")).to_contain_text("AZ to vote")

    await voted(states, ballot, "AZ")
    await expect(shown).to_contain_text("2 of 5")
    await expect(shown.locator(".waits")).not_to_contain_text("AZ to vote")
    await pledged(states, request_id, accepted=3)
    await expect(shown.locator(".coverage")).to_contain_text("30%")
    await voted(states, ballot, "KG", "KZ", "UZ")
    await expect(shown).to_contain_text("Consensus reached")
    await expect(shown).to_contain_text("Mobilised")
    await expect(shown.locator(".waits")).to_contain_text("AZ to depart with AZ-1.1")
    await expect(shown.locator("time.late")).to_have_count(1)

    await page.get_by_label("State").select_option("KZ")
    await expect(shown).to_have_count(0)
    await page.get_by_label("State").select_option("TR")
    await expect(shown).to_be_visible()
    await page.get_by_label("Status").select_option("closed")
    await expect(shown).to_have_count(0)
    await states["TR"].settled(await states["TR"].close(request_id, "over"))
    await expect(shown.locator(".status")).to_have_text("Closed")


async def test_a_request_is_shown_whole(open_page: Open, states: Party, new_request: Made) -> None:
    """Positions, needs, the plot, pledges, lines and every event with its signature."""
    data = new_request(mode="exercise")
    request_id = data["request_id"]
    ballot = await raised(states, data)
    page = await open_page(f"/requests/{request_id}")
    await expect(page).to_have_title(f"EXERCISE · {data['emergency']['title']} · Qalqan")
    await expect(page.locator(".banner")).to_have_text("Exercise: no emergency has happened")
    kz = section(page, "Ballot").locator('.position[data-key="KZ"]')
    await expect(kz).to_contain_text("Waited for")
    await states["KZ"].settled(await states["KZ"].vote(ballot, "object", reason="No overflight yet"))
    await expect(kz).to_contain_text("Objects")
    await expect(kz).to_contain_text("No overflight yet")
    await states["KZ"].settled(await states["KZ"].vote(ballot, "approve", sequence=2))
    await expect(kz).to_contain_text("Approves")
    await pledged(states, request_id, accepted=3)
    await voted(states, ballot, "AZ", "KG", "UZ")
    await expect(section(page, "Ballot")).to_contain_text("Consensus reached")
    await expect(section(page, "Needs").locator("tbody tr")).to_contain_text("3 of 10")
    await expect(section(page, "Pledges").locator("tbody tr")).to_contain_text("AZ-1")
    await expect(section(page, "Mobilisation").locator("tbody tr")).to_contain_text("AZ-1.1")
    await states["AZ"].settled(await states["AZ"].depart(request_id, "AZ-1", 2, "2023-02-06T06:00:00Z"))
    await expect(section(page, "Pledges").locator("tbody tr")).to_contain_text("2 departed")
    await expect(page.locator("svg.plot path.covered")).to_have_count(1)
    assert "V" in (await page.locator("svg.plot path.covered").get_attribute("d") or "")

    events = section(page, "Events").locator(".event")
    # Raised, ballot opened, five votes, offered, accepted, reached, authorised, departed.
    await expect(events).to_have_count(12)
    await expect(events.locator(".signature.valid")).to_have_count(12)
    await expect(events.first).to_contain_text("Signed by AZ")
    await events.first.get_by_role("button").click()
    await expect(events.first.locator("pre")).to_contain_text('"quantity": 2')
    await page.wait_for_timeout(1_200)  # what is open stays open when all is drawn anew
    await expect(events).to_have_count(12)
    await expect(events.first.locator("pre")).to_be_visible()


LONG_AGO = "2001-01-01T00:00:00Z"
"""An offer that ended so is what is due first, whatever else is open."""


async def test_a_turn_is_acknowledged(open_page: Open, states: Party, new_request: Made) -> None:
    """Whoever owes something is named, until somebody says that it is known."""
    request_id = (await raised(states, new_request())).request_id
    await pledged(states, request_id, offer_expires_at=LONG_AGO)
    page = await open_page()
    turn = page.locator(turn_of(request_id)).filter(has_text="TR to answer AZ-1")
    await expect(turn).to_contain_text("late")
    await turn.get_by_role("button", name="Acknowledge: TR to answer AZ-1").click()
    await expect(turn).to_contain_text("Acknowledged by")
    await expect(turn.get_by_role("button")).to_have_count(0)


def turn_of(request_id: str) -> str:
    """Turns that belong to a request."""
    return f'.turn:has(a[href="#/requests/{request_id}"])'


async def test_an_operator_sees_what_its_state_owes_until_the_token_is_revoked(
    open_page: Open, system: Stack, run: RunInfo, states: Party, new_request: Made
) -> None:
    """Only its own turns; an observer has no streams and acknowledges nothing; a revocation leads to signing in."""
    request_id = (await raised(states, new_request())).request_id
    await pledged(states, request_id, offer_expires_at=LONG_AGO)
    operator, observer = await made(system, "operator", "TR"), await made(system, "observer")
    async with httpx2.AsyncClient(timeout=20) as http:
        await becomes(http, run, observer, 200)
    page = await open_page(token=operator)
    turns = page.get_by_role("complementary", name="Your turn")
    await expect(turns.locator(turn_of(request_id))).to_have_count(1)
    assert set(await turns.locator(".turn .what .state").all_text_contents()) == {"TR"}

    watching = await open_page(token=observer)
    await expect(watching.locator(turn_of(request_id)).first).to_be_visible()
    await expect(watching.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await expect(watching.get_by_role("link", name="Streams")).to_have_count(0)

    assert token(system.home, "revoke", operator.split("_")[1]).exit_code == 0
    await expect(page.get_by_role("alert")).to_contain_text("not accepted")
    await expect(page.locator(".card")).to_have_count(0)


async def test_the_streams_show_how_the_system_is(open_page: Open, states: Party, new_request: Made) -> None:
    """Each service, its lanes, who reads as a group, how long effects take; and what was refused, with its original."""
    data = new_request()
    ballot = await raised(states, data)
    page = await open_page("/streams")
    await expect(section(page, "Services").locator(".tile.ready")).to_have_count(5)
    await expect(section(page, "Lanes").locator("tbody tr")).to_have_count(5)
    effect = section(page, "From event to effect").locator("tbody tr", has_text="consensus").filter(has_text="requests")
    await expect(effect).to_contain_text("ms")
    group = section(page, "Consumer groups").locator("tr", has_text="qalqan.consensus")
    await expect(group).to_contain_text("Stable")
    await group.get_by_role("button").click()
    await expect(section(page, "Consumer groups").locator(".partitions")).to_contain_text("inbox.votes")

    sent = await states["HU"].submit("VoteCast", vote_of(ballot, "HU"))
    place = f"{sent.topic}/{sent.partition}/{sent.offset}"
    rejection = section(page, "Rejections").locator(".rejection", has_text=place)
    await expect(rejection).to_contain_text("not-eligible")
    await rejection.get_by_role("button").click()
    await expect(rejection.locator("pre").last).to_contain_text('"state": "HU"')


def vote_of(ballot: Ballot, state: str) -> dict[str, Any]:
    """The vote of a state that is not on the roll."""
    vote = {"request_id": ballot.request_id, "ballot_id": ballot.ballot_id, "round": ballot.round}
    return vote | {"state": state, "sequence": 1, "position": "approve"}


async def test_a_token_is_pasted_taken_from_the_address_and_refused(open_page: Open, run: RunInfo) -> None:
    """It never stays in the address; one that is not accepted leads back to signing in, and says so."""
    page = await open_page(token=None)
    await page.get_by_label("Token").fill("not a token")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not accepted")
    await page.get_by_label("Token").fill(run.token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1, name="Now")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token")).to_be_visible()

    page = await open_page("/streams")
    await expect(page.get_by_role("heading", level=1, name="Streams")).to_be_visible()
    assert page.url.endswith("/#/streams")
    assert run.token not in page.url
    await page.evaluate("sessionStorage.setItem('qalqan.token', 'revoked')")
    await expect(page.get_by_role("alert")).to_contain_text("not accepted")


async def test_an_unknown_request_is_said_to_be_unknown(open_page: Open) -> None:
    """Not an empty view, and not for ever "loading"."""
    page = await open_page("/requests/TR-1999-NONE")
    await expect(page.get_by_role("heading", level=1)).to_have_text("No request TR-1999-NONE is known.")
