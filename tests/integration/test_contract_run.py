"""What stands on the public topics is what the AsyncAPI document says: headers and data of each event."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from qalqan import topics
from qalqan.contract import asyncapi
from qalqan.envelope import to_kafka
from qalqan.events import EVENTS
from qalqan.jsontext import parse
from tests.integration.stranger import Stranger, raw

DOCUMENT = asyncapi()
REGISTRY: Registry[Any] = Registry().with_resource("urn:asyncapi", Resource(DOCUMENT, DRAFT202012))


@cache
def validator(place: str) -> Draft202012Validator:
    """For the schema at a place of the document."""
    schema = {"$ref": f"urn:asyncapi#{place}"}
    return Draft202012Validator(schema, registry=REGISTRY, format_checker=FormatChecker())


async def test_a_run_validates_against_the_document(stranger: Stranger) -> None:
    """A request, an offer, its acceptance, votes up to the mobilisation and a refused vote: and all that others did."""
    request = await stranger.raised()
    await stranger.offered(request)
    accepted = {"request_id": request, "pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 3}
    await stranger.admit(stranger.signed("PledgeAccepted", accepted), topics.INBOX_PLEDGES)
    for state in ("AZ", "KG", "KZ", "UZ"):
        vote = stranger.signed("VoteCast", await stranger.vote_data(request, state), state)
        await stranger.admit(vote, topics.INBOX_VOTES)
    await stranger.stated("MobilizationAuthorized", request)
    forged = stranger.signed("VoteCast", await stranger.vote_data(request, "KZ"), "KZ", stranger.state_key("UZ"))
    await stranger.rejection(await stranger.put(raw(forged, topics.INBOX_VOTES)))

    seen = set()
    for message in await stranger.client.read(topics.PUBLIC):
        kind = EVENTS[message.event.type]
        _, value, headers = to_kafka(message.event)
        place = f"/components/messages/{kind.name}"
        validator(f"{place}/headers").validate({name: content.decode() for name, content in headers})
        validator(f"{place}/payload").validate(parse(value, max_string=None))
        assert kind.name in DOCUMENT["channels"][message.topic]["messages"]
        seen.add(kind.name)
    assert seen >= {"MemberRegistered", "KeyRegistered", "VoteCast", "ConsensusReached", "MobilizationAuthorized"}
