"""The mistakes in docs/integrators/README.md: each is made, and answered as the page says."""

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio

from qalqan.envelope import Event, to_http, to_structured
from qalqan.signing import Ed25519Key, sign
from tests.integration.stranger import Stranger

PAGE = Path(__file__).parents[2] / "docs" / "integrators" / "README.md"
STRUCTURED = {"content-type": "application/cloudevents+json"}

Answer = tuple[str, str]


def table() -> dict[str, Answer]:
    """Reason and detail by mistake, as the page has them."""
    section = PAGE.read_text("utf-8").partition("## Mistakes\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| (.+?) \|$", section, re.MULTILINE)
    return {mistake: (reason, detail) for mistake, reason, detail in rows}


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


async def test_each_mistake_is_answered_as_the_page_says(stranger: Stranger, http: httpx2.AsyncClient) -> None:
    found = await answers(stranger, http)
    told = table()
    assert told.keys() == found.keys()
    for mistake, (reason, detail) in told.items():
        pattern = "(.*)".join(map(re.escape, detail.replace("`", "").split("…")))
        assert found[mistake][0] == reason, (mistake, found[mistake])
        assert re.fullmatch(pattern, found[mistake][1].replace("`", "")), (mistake, found[mistake])


async def answers(stranger: Stranger, http: httpx2.AsyncClient) -> dict[str, Answer]:
    """Makes every mistake; nothing of it is written."""
    request = stranger.new_request()
    good = stranger.signed("RequestRaised", request)
    vote = stranger.signed("VoteCast", {"request_id": request["request_id"]}, "KZ")
    scoped = await stranger.register_key("TR", ["pledge"])
    key = Ed25519Key.generate()

    def raised(**changes: Any) -> Event:
        return stranger.signed("RequestRaised", request | changes)

    async def post(service: str, headers: dict[str, str], body: bytes) -> Answer:
        url = f"{stranger.run.http[service]}/events?validate=only"
        said = (await http.post(url, headers=headers, content=body)).json()
        return said["reason"], said["detail"]

    async def sent(event: Event, service: str = "request") -> Answer:
        return await post(service, *to_http(event))

    async def structured(**changes: Any) -> Answer:
        whole = {name: value for name, value in (to_structured(good) | changes).items() if value is not None}
        return await post("request", STRUCTURED, json.dumps(whole).encode())

    spaced = json.dumps(request, indent=2).encode()
    fine = replace(stranger.event("RequestRaised", request), time="2026-11-25T12:00:00.250Z")
    by_hand = sign(fine, stranger.state_key("TR"))
    async with httpx2.AsyncClient(base_url=stranger.run.http["notify"]) as reader:
        no_token = (await reader.get("/stream")).json()
    return {
        "The data were written anew after signing (`--data` of curl, a JSON library's other spelling)": await sent(
            replace(good, data=spaced)
        ),
        "An attribute was changed after signing": await sent(replace(by_hand, time="2026-11-25T12:00:01Z")),
        "`data` instead of `data_base64` in structured mode": await structured(data=request, data_base64=None),
        "`datacontenttype` left out": await structured(datacontenttype=None),
        "base64 with line breaks, without padding, or in the alphabet of URLs": await structured(
            data_base64=base64.encodebytes(good.data).decode()
        ),
        "The key is not registered (or its id is not of the DER, but of the PEM)": await sent(sign(good, key)),
        "Another state's key": await sent(sign(good, stranger.state_key("KZ"))),
        "The key has not this scope": await sent(sign(good, scoped)),
        "Signed for another network": await sent(
            stranger.signed("RequestRaised", request, source="qalqan://other/states/TR")
        ),
        "Sent to another service's inbox": await sent(vote, "request"),
        "`subject` is not the request id": await sent(
            stranger.signed("RequestRaised", request, subject="TR-2026-other")
        ),
        "A quantity as text, or with a fraction": await sent(raised(needs=[request["needs"][0] | {"quantity": "10"}])),
        "An instant with an offset instead of `Z`": await sent(
            raised(emergency=request["emergency"] | {"occurred_at": "2026-11-25T15:00:00+03:00"})
        ),
        "`GET` without a token": (str(no_token["status"]), no_token["detail"]),
    }
