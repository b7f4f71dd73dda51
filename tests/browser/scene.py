"""A board as it may look on a busy day: several requests, each as far as it has come. Played by states with their keys.

Emergencies that happened stand as they are known; needs and offers are shortened, and the instants are of today.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from qalqan.client import Ballot, Client, Submission
from qalqan.instants import format_instant
from tests.meanwhile import meanwhile

Party = dict[str, Client]

EARTHQUAKE = "TR-2026-0001"
_PLACES: dict[str, tuple[str, float, float]] = {
    "Adana": ("TR", 36.98, 35.28),
    "Pazarcık": ("TR", 37.23, 37.01),
    "Baku": ("AZ", 40.47, 50.05),
    "Qəbələ": ("AZ", 40.98, 47.85),
    "Almaty": ("KZ", 43.35, 77.04),
    "Astana": ("KZ", 51.02, 71.47),
    "Атырау": ("KZ", 47.12, 51.92),
    "Bishkek": ("KG", 43.06, 74.48),
    "Жалал-Абад": ("KG", 40.93, 73.0),
    "Toshkent": ("UZ", 41.26, 69.28),
    "Sardoba": ("UZ", 40.3, 68.2),
    "Budapest": ("HU", 47.44, 19.26),
    "Girne": ("TRNC", 35.34, 33.32),
}


def place(name: str) -> dict[str, Any]:
    """A place as events have it."""
    country, lat, lon = _PLACES[name]
    return {"name": name, "country": country, "lat": lat, "lon": lon}


def hours(count: float) -> str:
    """So many hours from now."""
    return format_instant(datetime.now(UTC) + timedelta(hours=count))


@dataclass(frozen=True, slots=True)
class Asked:
    """A need: what, how much, within how many hours, to where."""

    capability: str
    quantity: int
    unit: str
    within_h: float
    to: str
    substitutes: tuple[str, ...] = ()

    def event(self, number: int) -> dict[str, Any]:
        """As RequestRaised has it."""
        return {
            "need_id": f"N{number}",
            "capability": self.capability,
            "quantity": self.quantity,
            "unit": self.unit,
            "priority": min(9, number),
            "needed_by": hours(self.within_h),
            "deliver_to": place(self.to),
            "substitutes": list(self.substitutes),
        }


def request(request_id: str, emergency: dict[str, Any], needs: Sequence[Asked], **more: Any) -> dict[str, Any]:
    """RequestRaised; `more`: mode, text, language."""
    return {
        "request_id": request_id,
        "affected_state": request_id.split("-")[0],
        "mode": "actual",
        "emergency": emergency,
        "needs": [need.event(number) for number, need in enumerate(needs, 1)],
        **more,
    }


def offer(request_id: str, pledge_id: str, need: str, what: Asked, arrives_h: float, **more: Any) -> dict[str, Any]:
    """PledgeOffered: `what.to` is where it comes from, `what.within_h` when it is ready."""
    return {
        "pledge_id": pledge_id,
        "request_id": request_id,
        "pledging_state": pledge_id.split("-")[0],
        "answers": [need],
        "capability": what.capability,
        "quantity": what.quantity,
        "unit": what.unit,
        "origin": place(what.to),
        "mode_of_transport": "air",
        "ready_at": hours(what.within_h),
        "arrives_at": hours(arrives_h),
        "offer_expires_at": hours(6),
        **more,
    }


async def done(client: Client, sending: Awaitable[Submission]) -> None:
    """Sends, and waits until it is admitted."""
    await client.settled(await sending)


async def raised(states: Party, data: dict[str, Any]) -> Ballot:
    """Raises a request; returns when the members are asked."""
    client = states[data["affected_state"]]
    await done(client, client.raise_request(data))
    return await client.ballot(data["request_id"])


async def pledged(states: Party, data: dict[str, Any], accepted: int = 0) -> None:
    """Offers, and accepts as many of it (0: leaves it open)."""
    giver, taker = states[data["pledging_state"]], states[data["request_id"].split("-")[0]]
    await done(giver, giver.pledge(data))
    if accepted:
        await done(taker, taker.accept(data["request_id"], data["pledge_id"], accepted))


async def earthquake(states: Party, pause_s: float) -> None:
    """A large one: agreed, mobilised, teams on their way and there."""
    needs = [
        Asked("MUSAR", 20, "team", 48, "Adana", ("HUSAR",)),
        Asked("EMT2", 4, "team", 48, "Adana"),
        Asked("FHOS", 3, "item", 72, "Adana"),
        Asked("tent", 5_000, "item", 96, "Adana"),
        Asked("heater", 2_000, "item", 96, "Adana"),
    ]
    emergency = {
        "kind": "earthquake",
        "title": "Kahramanmaraş earthquakes",
        "occurred_at": hours(-1),
        "place": place("Pazarcık"),
        "severity": "Extreme",
    }
    text = (
        "Ağır hasar var; arama kurtarma ekipleri, sahra hastaneleri ve çadır gerekiyor. "
        "Adana ve Gaziantep havalimanları yardım uçuşlarına açık."
    )
    ballot = await raised(states, request(EARTHQUAKE, emergency, needs, text=text, language="tr"))
    offers = [
        ("AZ-1", "N1", Asked("HUSAR", 4, "team", 1, "Baku"), 6, 4),
        ("KZ-1", "N1", Asked("MUSAR", 6, "team", 2, "Almaty"), 12, 6),
        ("HU-1", "N1", Asked("MUSAR", 2, "team", 3, "Budapest"), 15, 2),
        ("KG-1", "N2", Asked("EMT2", 1, "team", -3, "Bishkek"), 2, 1),
        ("UZ-1", "N3", Asked("FHOS", 1, "item", 8, "Toshkent"), 60, 1),
        ("AZ-2", "N4", Asked("tent", 2_630, "item", 6, "Baku"), 60, 2_630),
        ("KZ-2", "N4", Asked("tent", 800, "item", 9, "Astana"), 120, 800),
        ("AZ-3", "N5", Asked("heater", 707, "item", 6, "Baku"), 60, 707),
        ("KG-2", "N2", Asked("EMT1", 1, "team", 2, "Bishkek"), 20, 0),
    ]
    votes = {"AZ": ("approve", {}), "KZ": ("approve", {}), "UZ": ("approve", {})}
    declaration = "Kyrgyzstan lends its full support and sends medical teams; it takes no part in the transport by sea."
    votes["KG"] = ("constructive-abstain", {"declaration": declaration})
    for (pledge_id, need, what, arrives_h, accepted), voter in zip(offers, [*votes, *[""] * 9], strict=False):
        await asyncio.sleep(pause_s)
        await pledged(states, offer(EARTHQUAKE, pledge_id, need, what, arrives_h), accepted)
        if voter:
            position, texts = votes[voter]
            await done(states[voter], states[voter].vote(ballot, position, **texts))
    await asyncio.sleep(pause_s)
    for pledge_id, count, arrived in (("AZ-1", 4, 4), ("KZ-1", 6, 0), ("HU-1", 2, 0)):
        client = states[pledge_id.split("-")[0]]
        await done(client, client.depart(EARTHQUAKE, pledge_id, count, hours(0)))
        if arrived:
            await done(client, client.arrive(EARTHQUAKE, pledge_id, arrived, hours(0), place=place("Adana")))


async def flood(states: Party) -> Ballot:
    """The members are voting, an offer is not answered."""
    needs = [Asked("HCP", 12, "item", 24, "Атырау"), Asked("FRB", 8, "team", 18, "Атырау")]
    emergency = {
        "kind": "flood",
        "title": "Жайық өзеніндегі су тасқыны",
        "occurred_at": hours(-9),
        "place": place("Атырау"),
        "severity": "Severe",
    }
    request_id = "KZ-2026-0007"
    ballot = await raised(states, request(request_id, emergency, needs, language="kk"))
    await pledged(states, offer(request_id, "AZ-1", "N1", Asked("HCP", 6, "item", 2, "Baku"), 14), 6)
    await pledged(states, offer(request_id, "UZ-1", "N2", Asked("FRB", 3, "team", 2, "Toshkent"), 10))
    for state in ("AZ", "UZ"):
        await done(states[state], states[state].vote(ballot, "approve"))
    return ballot


async def dam(states: Party) -> Ballot:
    """A member objects."""
    needs = [Asked("ETS", 30, "item", 24, "Sardoba"), Asked("WP", 4, "item", 30, "Sardoba")]
    emergency = {
        "kind": "dam breach",
        "title": "Sardoba suv omboridagi avariya",
        "occurred_at": hours(-20),
        "place": place("Sardoba"),
        "severity": "Severe",
    }
    ballot = await raised(states, request("UZ-2026-0003", emergency, needs, language="uz"))
    reason = "The transit of heavy vehicles over the damaged bridge is not cleared; a route by Jizzakh can be agreed."
    await done(states["KZ"], states["KZ"].vote(ballot, "object", reason=reason))
    for state in ("AZ", "KG", "TR"):
        await done(states[state], states[state].vote(ballot, "approve"))
    return ballot


async def landslide(states: Party) -> None:
    """Done and closed."""
    needs = [Asked("TAST", 1, "team", 48, "Жалал-Абад")]
    emergency = {
        "kind": "landslide",
        "title": "Жалал-Абаддагы жер көчкү",
        "place": place("Жалал-Абад"),
        "severity": "Moderate",
    }
    request_id = "KG-2026-0002"
    ballot = await raised(states, request(request_id, emergency, needs, language="ky"))
    await pledged(states, offer(request_id, "TR-1", "N1", Asked("TAST", 1, "team", 1, "Adana"), 9), 1)
    for state in ("AZ", "KZ", "TR", "UZ"):
        await done(states[state], states[state].vote(ballot, "approve"))
    await done(states["KG"], states["KG"].close(request_id, "The road is open again; the team has gone home."))


async def exercise(states: Party) -> None:
    """An exercise, and a fire that may become a request."""
    needs = [Asked("HUSAR", 6, "team", 24, "Baku"), Asked("MEVAC", 2, "aircraft", 24, "Baku")]
    emergency = {
        "kind": "earthquake",
        "title": "Baku-2026: joint exercise of rescue units",
        "occurred_at": hours(-2),
        "place": place("Baku"),
        "severity": "Extreme",
    }
    ballot = await raised(states, request("AZ-2026-E1", emergency, needs, mode="exercise"))
    await pledged(states, offer("AZ-2026-E1", "TR-1", "N1", Asked("HUSAR", 3, "team", 1, "Adana"), 5), 3)
    for state in ("TR", "KG", "KZ"):
        await done(states[state], states[state].vote(ballot, "approve"))
    fire = {"kind": "forest fire", "title": "Qəbələdə meşə yanğını", "place": place("Qəbələ"), "severity": "Moderate"}
    anticipated = {"request_id": "AZ-2026-0004", "affected_state": "AZ", "mode": "actual", "emergency": fire}
    await done(states["AZ"], states["AZ"].anticipate(anticipated))


async def refused(states: Party, still_open: Ballot, decided: Ballot) -> None:
    """What is not admitted: an observer's vote, a correction that comes too late, a request raised twice."""
    await states["HU"].vote(still_open, "approve")
    await states["KZ"].vote(decided, "approve", sequence=2)
    emergency = {"kind": "flood", "title": "Жайық өзені", "place": place("Атырау"), "severity": "Severe"}
    again = request(still_open.request_id, emergency, [Asked("HCP", 4, "item", 20, "Атырау")])
    await states["KZ"].raise_request(again)


async def play(states: Party, pause_s: float = 0.0) -> Ballot:
    """The whole board; gives the ballot that is still open. `pause_s`: between the offers of the earthquake, so that
    its plot has a width."""
    await landslide(states)
    decided = await dam(states)
    await exercise(states)
    still_open = await flood(states)
    await earthquake(states, pause_s)
    await refused(states, still_open, decided)
    return still_open


def busy(states: Party, ballot: Ballot) -> AbstractAsyncContextManager[None]:
    """While the block runs, AZ corrects its vote some thirty times a second: something to see in the streams."""

    async def correct() -> None:
        for sequence in itertools.count(2):
            await states["AZ"].vote(ballot, "approve", sequence=sequence)
            await asyncio.sleep(0.03)

    return meanwhile(correct())
