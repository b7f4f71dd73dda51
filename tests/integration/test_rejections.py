"""Every reason of CONTRACT "SubmissionRejected" on the plain path, each by bytes sent to the real topic."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from aiokafka import ConsumerRecord

from chassis.admission import Judgement
from chassis.draft import Committed, Draft
from chassis.ledger import LaneRow
from chassis.parking import REQUEST_LIMIT, WAIT
from chassis.publication import Publisher
from qalqan import topics
from qalqan.envelope import Event, core_digest, from_base64, to_base64, to_kafka, to_structured
from qalqan.events import PledgeOffered, Reason
from qalqan.instants import to_millis
from qalqan.registry import Registry, Root
from qalqan.signing import PAYLOAD_TYPE, EcdsaP256Key, Ed25519Key, SigningKey, pae
from qalqan.sources import root_source, service_source, state_source
from qalqan.topics import INBOX_GOVERNANCE, INBOX_PLEDGES, INBOX_REQUESTS, INBOX_VOTES, RECORD_LIMIT_BYTES
from services.pledge.domain import State
from services.pledge.domain.admit import MAX_CHANGES
from services.pledge.handlers import PledgeHandlers
from tests.conftest import pledge_data
from tests.integration.stranger import Raw, Stranger, raw, sender
from tests.unit import builders

Make = Callable[[Stranger], Awaitable[Raw]]


@dataclass(frozen=True, slots=True)
class Case:
    """A record that must be refused: for this reason, with these words among the detail's."""

    reason: Reason
    says: str
    make: Make

    def __str__(self) -> str:
        return f"{self.reason}: {self.make.__name__.replace('_', ' ')}"


CASES: list[Case] = []
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""FIPS 186-4, D.1.2.3."""


def case(reason: Reason, says: str) -> Callable[[Make], Make]:
    """Puts how a record is made into the table."""

    def enter(make: Make) -> Make:
        CASES.append(Case(reason, says, make))
        return make

    return enter


def a_request(stranger: Stranger, key: SigningKey | None = None, **attributes: Any) -> Raw:
    """A good RequestRaised, to be spoilt."""
    return raw(stranger.signed("RequestRaised", stranger.new_request(), key=key, **attributes), INBOX_REQUESTS)


def padded(record: Raw, size: int) -> Raw:
    """The record filled up to a size with a header that nobody reads."""
    empty = record.header("x-padding", b"")
    return record.header("x-padding", b"." * (size - empty.size()))


# --- what can be told from the record alone ---


@case("too-large", "262145 bytes of 262144")
async def one_byte_past_the_limit(s: Stranger) -> Raw:
    return padded(a_request(s), RECORD_LIMIT_BYTES + 1)


@case("bad-envelope", "datacontenttype: missing")
async def no_content_type(s: Stranger) -> Raw:
    return a_request(s).without("content-type")


@case("bad-envelope", "charset=utf-8")
async def another_content_type(s: Stranger) -> Raw:
    return a_request(s).without("content-type").header("content-type", b"application/json; charset=utf-8")


@case("bad-envelope", "'ce_id': stands twice")
async def an_attribute_twice(s: Stranger) -> Raw:
    return a_request(s).header("ce_id", b"another")


@case("bad-envelope", "'x-note': stands twice")
async def a_foreign_header_twice(s: Stranger) -> Raw:
    return a_request(s).header("x-note", b"one").header("x-note", b"one")


@case("bad-envelope", "'x-note': null")
async def a_null_header(s: Stranger) -> Raw:
    return a_request(s).header("x-note", None)


@case("bad-envelope", "'x-note': name or value is not UTF-8")
async def a_header_value_that_is_not_utf8(s: Stranger) -> Raw:
    return a_request(s).header("x-note", b"\xff\xfe")


@case("bad-envelope", "name or value is not UTF-8")
async def a_header_name_that_is_not_utf8(s: Stranger) -> Raw:
    return replace(a_request(s), broken_name=b"x-\xff\xfe")


@case("bad-envelope", "'Note': not an attribute's name")
async def an_attribute_name_in_capitals(s: Stranger) -> Raw:
    return a_request(s).header("ce_Note", b"one")


@case("bad-envelope", "subject: empty")
async def an_empty_attribute(s: Stranger) -> Raw:
    return a_request(s).without("ce_subject").header("ce_subject", b"")


@case("bad-envelope", "id: ")
async def an_id_of_129_characters(s: Stranger) -> Raw:
    return a_request(s, id="x" * 129)


@case("bad-envelope", "time: ")
async def a_time_that_is_none(s: Stranger) -> Raw:
    return a_request(s).without("ce_time").header("ce_time", b"yesterday")


@case("bad-envelope", "value: missing")
async def a_tombstone(s: Stranger) -> Raw:
    return replace(a_request(s), value=None)


@case("bad-envelope", "value: missing")
async def a_tombstone_without_anything(s: Stranger) -> Raw:
    return Raw(INBOX_VOTES, None, None, [], partition=5)


@case("bad-envelope", "specversion: '2.0'")
async def another_specversion(s: Stranger) -> Raw:
    return a_request(s).without("ce_specversion").header("ce_specversion", b"2.0")


@case("bad-envelope", "dssematerial: missing")
async def no_signature(s: Stranger) -> Raw:
    return a_request(s).without("ce_dssematerial")


def material(stranger: Stranger, text: bytes) -> Raw:
    """A request with these bytes for its dssematerial."""
    return a_request(stranger).without("ce_dssematerial").header("ce_dssematerial", text)


@case("bad-envelope", "dssematerial: not padded standard base64")
async def material_that_is_not_base64(s: Stranger) -> Raw:
    return material(s, b"not base64!")


@case("bad-envelope", "dssematerial: $: not JSON")
async def material_that_is_not_json(s: Stranger) -> Raw:
    return material(s, base64.b64encode(b"{"))


@case("bad-envelope", "dssematerial: $: nested deeper")
async def material_that_is_nested_too_deeply(s: Stranger) -> Raw:
    return material(s, base64.b64encode(b'{"signatures":' + b"[" * 50_000))


@case("bad-envelope", "dssematerial: signatures")
async def material_with_two_signatures(s: Stranger) -> Raw:
    whole = dsse(s.signed("RequestRaised", s.new_request()))
    whole["signatures"] *= 2
    return material(s, base64.b64encode(json.dumps(whole).encode()))


@case("bad-envelope", "data: a structured event")
async def structured_with_plain_data(s: Stranger) -> Raw:
    event = s.signed("RequestRaised", s.new_request())
    members = to_structured(event)
    del members["data_base64"]
    return structured({**members, "data": json.loads(event.data)}, event)


@case("bad-envelope", "structured event: ")
async def structured_that_is_not_json(s: Stranger) -> Raw:
    return replace(structured({}, s.event("RequestRaised", s.new_request())), value=b"<event/>")


@case("bad-envelope", "cloudevents-batch+json")
async def a_batch(s: Stranger) -> Raw:
    batch = structured({}, s.event("RequestRaised", s.new_request()))
    return replace(batch, value=b"[]", headers=[("content-type", b"application/cloudevents-batch+json")])


@case("wrong-network", "dev-none")
async def signed_for_another_network(s: Stranger) -> Raw:
    return a_request(s, source=state_source("dev-none", "TR"))


@case("wrong-network", "urn:example:tr")
async def a_source_without_a_network(s: Stranger) -> Raw:
    return a_request(s, source="urn:example:tr")


@case("wrong-type", "VoteCast")
async def a_vote_among_the_requests(s: Stranger) -> Raw:
    request_id = s.new_request()["request_id"]
    return raw(s.signed("VoteCast", builders.EXAMPLES["VoteCast"], subject=request_id), INBOX_REQUESTS)


@case("wrong-type", "qalqan.RequestRaised.v2")
async def a_type_of_a_later_version(s: Stranger) -> Raw:
    return a_request(s, type="qalqan.RequestRaised.v2")


@case("wrong-type", "ConsensusReached")
async def what_only_a_service_states(s: Stranger) -> Raw:
    data = {**builders.EXAMPLES["ConsensusReached"], "request_id": s.new_request()["request_id"]}
    return raw(s.signed("ConsensusReached", data), INBOX_VOTES)


@case("wrong-type", "Tick")
async def a_tick_of_a_state(s: Stranger) -> Raw:
    request_id = s.new_request()["request_id"]
    return raw(s.signed("Tick", {"at": "2100-01-01T00:00:00Z"}, subject=request_id), INBOX_VOTES)


@case("key-mismatch", "unlike the subject")
async def another_key(s: Stranger) -> Raw:
    return replace(a_request(s), key=b"TR-2023-other")


@case("key-mismatch", "unlike the subject")
async def no_key(s: Stranger) -> Raw:
    return replace(a_request(s), key=None, partition=0)


@case("key-mismatch", "unlike the subject")
async def a_key_that_is_not_utf8(s: Stranger) -> Raw:
    return replace(a_request(s), key=b"\xff\xfe", partition=3)


@case("key-mismatch", "partitionkey")
async def another_partitionkey(s: Stranger) -> Raw:
    return a_request(s).without("ce_partitionkey").header("ce_partitionkey", b"TR-2023-other")


@case("wrong-partition", "(murmur2)")
async def the_next_partition(s: Stranger) -> Raw:
    record = a_request(s)
    return replace(record, partition=(topics.partition_of((record.key or b"").decode()) + 1) % 12)


# --- whose word it is ---


@case("unknown-key", "is not registered")
async def a_key_that_nobody_registered(s: Stranger) -> Raw:
    return a_request(s, key=Ed25519Key.generate())


@case("foreign-source", "states/AZ")
async def another_states_key(s: Stranger) -> Raw:
    return a_request(s, key=s.state_key("AZ"))


@case("foreign-source", "services/request")
async def a_services_key(s: Stranger) -> Raw:
    return a_request(s, key=s.service_key("request"))


@case("key-not-valid", "is not valid at")
async def a_key_whose_time_is_over(s: Stranger) -> Raw:
    return a_request(s, key=await s.register_key("TR", ["request"], valid_until="2023-02-01T00:00:00Z"))


@case("key-not-valid", "is not valid at")
async def a_key_whose_time_is_to_come(s: Stranger) -> Raw:
    return a_request(s, key=await s.register_key("TR", ["request"], valid_from="2123-01-01T00:00:00Z"))


@case("key-not-valid", "was revoked")
async def a_key_that_was_revoked(s: Stranger) -> Raw:
    key = await s.register_key("TR", ["request"])
    await s.admit(s.signed("RequestRaised", s.new_request(), key=key), INBOX_REQUESTS)
    await s.revoke_key(key.key_id)
    return a_request(s, key=key)


@case("bad-signature", "the signature is wrong")
async def an_ecdsa_signature_with_a_high_s(s: Stranger) -> Raw:
    key = await s.register_key("TR", ["request"], EcdsaP256Key.generate())
    await s.admit(s.signed("RequestRaised", s.new_request(), key=key), INBOX_REQUESTS)
    event = s.signed("RequestRaised", s.new_request(), key=key)
    whole = dsse(event)
    signature = from_base64(whole["signatures"][0]["sig"])
    high = P256_ORDER - int.from_bytes(signature[32:], "big")
    whole["signatures"][0]["sig"] = to_base64(signature[:32] + high.to_bytes(32, "big"))
    return raw(with_dsse(event, whole), INBOX_REQUESTS)


@case("bad-signature", "another event's")
async def data_changed_after_signing(s: Stranger) -> Raw:
    record = a_request(s)
    return replace(record, value=(record.value or b"").replace(b'"quantity":10', b'"quantity":99'))


@case("bad-signature", "another event's")
async def an_attribute_changed_after_signing(s: Stranger) -> Raw:
    return a_request(s).without("ce_id").header("ce_id", b"another")


@case("bad-signature", "the signature is wrong")
async def a_signature_of_zeros(s: Stranger) -> Raw:
    event = s.signed("RequestRaised", s.new_request())
    whole = dsse(event)
    whole["signatures"][0]["sig"] = to_base64(bytes(64))
    return raw(with_dsse(event, whole), INBOX_REQUESTS)


@case("bad-signature", "payloadType")
async def another_payload_type(s: Stranger) -> Raw:
    event = s.event("RequestRaised", s.new_request())
    return raw(signed_as(event, s.state_key("TR"), "application/vnd.in-toto+json", {}), INBOX_REQUESTS)


@case("bad-signature", "ext or signedextattrs")
async def extensions_signed_too(s: Stranger) -> Raw:
    event = s.event("RequestRaised", s.new_request())
    return raw(signed_as(event, s.state_key("TR"), PAYLOAD_TYPE, {"ext": to_base64(bytes(32))}), INBOX_REQUESTS)


@case("key-scope", "may not sign VoteCast")
async def a_vote_by_the_logistics_servers_key(s: Stranger) -> Raw:
    key = await s.register_key("KZ", ["pledge"])
    vote = await s.vote_data(await s.raised())
    return raw(s.signed("VoteCast", vote, "KZ", key), INBOX_VOTES)


@case("key-scope", "may not sign RequestRaised")
async def a_request_by_a_service(s: Stranger) -> Raw:
    return a_request(s, key=s.service_key("request"), source=service_source(s.network, "request"))


@case("key-scope", "may not sign KeyRegistered")
async def a_key_registered_by_a_state(s: Stranger) -> Raw:
    good = await s.registration("TR", ["vote"], Ed25519Key.generate())
    forged = s.signed("KeyRegistered", good.data, "TR", subject=good.subject)
    return raw(forged, INBOX_GOVERNANCE)


@case("key-scope", "may not sign MemberRegistered")
async def a_member_registered_by_a_root_key(s: Stranger) -> Raw:
    data, root = builders.EXAMPLES["MemberRegistered"], root_source(s.network)
    return raw(
        s.signed("MemberRegistered", data, key=s.office_key("root"), source=root, subject="KZ"),
        INBOX_GOVERNANCE,
    )


# --- what is said ---


@case("duplicate-id", "was another event's")
async def the_id_of_an_admitted_event(s: Stranger) -> Raw:
    data = s.new_request()
    first = await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    return raw(s.signed("RequestRaised", {**data, "text": "another"}, id=first.event.id), INBOX_REQUESTS)


@case("duplicate-id", "was another event's")
async def the_id_of_a_refused_event_with_bad_data_too(s: Stranger) -> Raw:
    data = s.new_request()
    first = s.signed("RequestRaised", {**data, "needs": []})
    await s.rejection(await s.put(raw(first, INBOX_REQUESTS)))
    return raw(s.signed("RequestRaised", {**data, "needs": None}, id=first.id), INBOX_REQUESTS)


Spoil = Callable[[bytes], bytes]


def instead(old: str, new: str) -> Spoil:
    """Replaces a piece of the data's JSON text, which must be there."""

    def spoil(data: bytes) -> bytes:
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode(), 1)

    return spoil


BAD_DATA: dict[str, tuple[str, Spoil]] = {
    "not JSON": ("$: not JSON", lambda data: data[:-1]),
    "not UTF-8": ("$: not UTF-8", lambda data: data.replace(b'"tr"', b'"\xff"')),
    "a byte order mark": ("byte order mark", lambda data: b"\xef\xbb\xbf" + data),
    "no data at all": ("$: not JSON", lambda data: b""),
    "an array": ("$: not a JSON object", lambda data: b"[" + data + b"]"),
    "a name twice": ('"text" stands twice', instead('"text":', '"text":"a","text":')),
    "a name twice below, spelled otherwise": (
        "$.needs[0]",
        instead('"unit":', r'"\u0075nit":"item","unit":'),
    ),
    "NaN": ("$.needs[0].quantity: NaN", instead('"quantity":10', '"quantity":NaN')),
    "1e999": ("lat: not a finite number", instead('"lat":36.98', '"lat":1e999')),
    "2^53": (
        "$.needs[0].quantity: integer beyond 2^53-1",
        instead('"quantity":10', '"quantity":9007199254740992'),
    ),
    "2^53 where nobody looks": (
        "$.later: integer beyond",
        instead('"text":', '"later":-9007199254740992,"text":'),
    ),
    "U+0000": ("$.text: holds U+0000", instead('"text":"', r'"text":"\u0000')),
    "a lone surrogate": ("$.text: holds a lone surrogate", instead('"text":"', r'"text":"\ud800')),
    "20,001 characters": ("$.text: longer than 20000", instead('"text":"', '"text":"' + "ş" * 20_001)),
    "33 levels": ("nested deeper than 32", instead('"text":', '"later":' + "[" * 32 + "]" * 32 + ',"text":')),
    "50,000 brackets": ("nested deeper than 32", lambda data: b"[" * 50_000),
    "50,000 objects": ("nested deeper than 32", lambda data: b'{"":' * 50_000),
    "a field missing": ("emergency.severity", instead('"severity":"Extreme",', "")),
    "a field of another kind": ("needs[0].quantity", instead('"quantity":10', '"quantity":"10"')),
    "a whole number as a fraction": ("needs[0].quantity", instead('"quantity":10', '"quantity":10.5')),
    "no need": ("needs", lambda data: json.dumps({**json.loads(data), "needs": []}).encode()),
    "a quantity of 0": ("needs[0].quantity", instead('"quantity":10', '"quantity":0')),
    "priority 10": ("needs[0].priority", instead('"priority":1', '"priority":10')),
    "an unknown capability": ("needs[0].capability", instead('"MUSAR"', '"DRAGON"')),
    "`other` without a text": ("`other` needs a `text`", instead('"MUSAR"', '"other"')),
    "an unknown unit": ("needs[0].unit", instead('"unit":"team"', '"unit":"dozen"')),
    "an instant without a day": ("occurred_at", instead('"2023-02-06T01:17:34Z"', '"01:17:34Z"')),
    "an instant that is not UTC": ("occurred_at", instead("T01:17:34Z", "T04:17:34+03:00")),
    "an instant that never was": ("occurred_at", instead('"2023-02-06T01:17:34Z"', '"2023-02-30T01:17:34Z"')),
    "an unknown mode": ("mode", instead('"mode":"test"', '"mode":"drill"')),
    "a latitude of 91": ("lat", instead('"lat":36.98', '"lat":91')),
    "a need twice": (
        "need_id N1 stands twice",
        lambda data: json.dumps({**json.loads(data), "needs": json.loads(data)["needs"] * 2}).encode(),
    ),
    "a request_id unlike the subject": (
        "the subject is",
        instead('"request_id":"TR-2023-S', '"request_id":"TR-2023-T'),
    ),
    "a request_id of no form": ("request_id", instead('"request_id":"TR-2023-S', '"request_id":"TR-S')),
    "another acting state": ("affected_state", instead('"affected_state":"TR"', '"affected_state":"AZ"')),
}
"""What is wrong with the data of a RequestRaised, what the answer says of it, and how it comes about."""


def spoilt(spoil: Spoil) -> Make:
    """How a request with these data is made: signed as they are."""

    async def make(s: Stranger) -> Raw:
        good = s.event("RequestRaised", s.new_request())
        return raw(s.signed("RequestRaised", spoil(good.data), subject=good.subject), INBOX_REQUESTS)

    return make


for _name, (_says, _spoil) in BAD_DATA.items():
    _make = spoilt(_spoil)
    _make.__name__ = _name
    CASES.append(Case("bad-data", _says, _make))


@case("bad-data", "does not begin with 'TR-'")
async def a_request_under_another_states_prefix(s: Stranger) -> Raw:
    data = {**s.new_request(), "request_id": f"AZ{s.new_request()['request_id'][2:]}"}
    return raw(s.signed("RequestRaised", data), INBOX_REQUESTS)


@case("bad-data", "does not begin with 'AZ-'")
async def a_pledge_under_another_states_prefix(s: Stranger) -> Raw:
    data = {**pledge_data(await s.raised()), "pledge_id": "KZ-1"}
    return raw(s.signed("PledgeOffered", data, "AZ"), INBOX_PLEDGES)


@case("bad-data", "min_quantity 5 is more than quantity 4")
async def a_pledge_of_less_than_its_least(s: Stranger) -> Raw:
    return raw(s.signed("PledgeOffered", pledge_data(await s.raised(), min_quantity=5), "AZ"), INBOX_PLEDGES)


@case("bad-data", "has no need N9")
async def a_pledge_that_answers_no_need(s: Stranger) -> Raw:
    return raw(s.signed("PledgeOffered", pledge_data(await s.raised(), answers=["N9"]), "AZ"), INBOX_PLEDGES)


@case("bad-data", "`policy` is the pledge service's own")
async def an_acceptance_by_policy(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", by="policy")


@case("bad-data", "an objection needs a `reason`")
async def an_objection_without_a_reason(s: Stranger) -> Raw:
    return await a_vote(s, position="object")


@case("bad-data", "needs a `declaration`")
async def a_constructive_abstention_without_a_declaration(s: Stranger) -> Raw:
    return await a_vote(s, position="constructive-abstain", declaration=" ")


@case("bad-data", "not the source's state 'KZ'")
async def a_vote_for_another_state(s: Stranger) -> Raw:
    return await a_vote(s, state="UZ")


@case("bad-data", "possession")
async def a_key_that_its_holder_does_not_have(s: Stranger) -> Raw:
    nobodys = to_base64(Ed25519Key.generate().sign(b"mine"))
    return raw(await s.registration("KZ", ["vote"], Ed25519Key.generate(), possession=nobodys), INBOX_GOVERNANCE)


# --- the state of things: requests ---


def ending(stranger: Stranger, name: str, request_id: str, by: str = "TR") -> Event:
    """RequestCancelled or RequestClosed."""
    return stranger.signed(name, {"request_id": request_id, "reason": "over"}, by)


@case("unknown-request", "no request TR-")
async def a_cancellation_of_nothing(s: Stranger) -> Raw:
    return raw(ending(s, "RequestCancelled", s.new_request()["request_id"]), INBOX_REQUESTS)


@case("unknown-request", "no request TR-")
async def an_acceptance_for_no_request(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", request_id=s.new_request()["request_id"])


@case("duplicate-request", "exists and is open")
async def a_request_raised_again(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    return raw(s.signed("RequestRaised", data), INBOX_REQUESTS)


@case("duplicate-request", "exists and is cancelled")
async def a_cancelled_request_raised_again(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    await s.admit(ending(s, "RequestCancelled", data["request_id"]), INBOX_REQUESTS)
    return raw(s.signed("RequestRaised", data), INBOX_REQUESTS)


@case("request-closed", "is closed")
async def a_closed_request_cancelled(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.admit(ending(s, "RequestClosed", request_id), INBOX_REQUESTS)
    return raw(ending(s, "RequestCancelled", request_id), INBOX_REQUESTS)


@case("request-closed", "was cancelled")
async def a_vote_on_a_cancelled_request(s: Stranger) -> Raw:
    request_id = await s.raised()
    vote = s.signed("VoteCast", await s.vote_data(request_id), "KZ")
    await s.admit(ending(s, "RequestCancelled", request_id), INBOX_REQUESTS)
    await s.stated("BallotWithdrawn", request_id)
    return raw(vote, INBOX_VOTES)


@case("request-closed", "was cancelled or closed")
async def an_acceptance_on_a_closed_request(s: Stranger) -> Raw:
    request_id = await pledged(s)
    await accepted(s, request_id, 4)
    await everybody_approves(s, request_id)
    await s.stated("MobilizationAuthorized", request_id)
    await s.admit(ending(s, "RequestClosed", request_id), INBOX_REQUESTS)
    await s.stated("MobilizationRevised", request_id)  # so the pledge service knows
    return await answer(s, "PledgeAccepted", request_id=request_id)


@case("not-allowed", "is TR's, not AZ's")
async def a_request_cancelled_by_another_state(s: Stranger) -> Raw:
    return raw(ending(s, "RequestCancelled", await s.raised(), by="AZ"), INBOX_REQUESTS)


# --- the state of things: votes ---


async def a_vote(stranger: Stranger, by: str = "KZ", request_id: str | None = None, **fields: Any) -> Raw:
    """A vote on a request's ballot, approving it but for `fields`."""
    data = await stranger.vote_data(request_id or await stranger.raised(), by)
    return raw(stranger.signed("VoteCast", {**data, **fields}, by), INBOX_VOTES)


async def everybody_approves(stranger: Stranger, request_id: str) -> None:
    """Consensus is reached."""
    for state in ("AZ", "KG", "KZ", "UZ"):
        await stranger.voted(request_id, state)
    await stranger.stated("ConsensusReached", request_id)


@case("unknown-ballot", "has no ballot sha256:")
async def a_ballot_that_is_none(s: Stranger) -> Raw:
    return await a_vote(s, ballot_id=builders.digest("none"))


@case("unknown-ballot", "is of round 1, not 2")
async def another_round(s: Stranger) -> Raw:
    return await a_vote(s, round=2)


@case("not-eligible", "HU is not on the roll")
async def an_observers_vote(s: Stranger) -> Raw:
    return await a_vote(s, by="HU")


@case("too-late", "the ballot is closed: reached")
async def a_vote_after_the_result(s: Stranger) -> Raw:
    request_id = await s.raised()
    await everybody_approves(s, request_id)
    return await a_vote(s, request_id=request_id, sequence=2, position="object", reason="late")


@case("stale", "has voted with sequence 2")
async def a_lower_sequence(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.voted(request_id, sequence=2)
    return await a_vote(s, request_id=request_id, sequence=1)


@case("stale", "has voted with sequence 1")
async def the_same_vote_under_another_id(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.voted(request_id)
    return await a_vote(s, request_id=request_id)


@case("equivocation", "sequence 1 of KZ was another vote")
async def the_same_sequence_with_another_position(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.voted(request_id)
    return await a_vote(s, request_id=request_id, position="abstain")


# --- the state of things: pledges ---


async def pledged(stranger: Stranger, **fields: Any) -> str:
    """A request with AZ's pledge of 4 teams, AZ-1."""
    request_id = await stranger.raised()
    await stranger.offered(request_id, **fields)
    return request_id


async def accepted(stranger: Stranger, request_id: str, quantity: int) -> None:
    """TR accepts of AZ-1."""
    data = {**builders.EXAMPLES["PledgeAccepted"], "request_id": request_id, "quantity": quantity}
    await stranger.admit(stranger.signed("PledgeAccepted", data), INBOX_PLEDGES)


async def answer(
    stranger: Stranger, name: str, signer: str = "TR", request_id: str | None = None, **fields: Any
) -> Raw:
    """A step in the life of AZ-1, as in the contract's example but for `fields`."""
    data = {**builders.EXAMPLES[name], "request_id": request_id or await pledged(stranger), **fields}
    return raw(stranger.signed(name, data, signer), INBOX_PLEDGES)


@case("request-closed", "was cancelled or closed")
async def an_offer_on_a_closed_request(s: Stranger) -> Raw:
    request_id = await pledged(s)
    await everybody_approves(s, request_id)
    await s.stated("MobilizationAuthorized", request_id)
    await s.admit(ending(s, "RequestClosed", request_id), INBOX_REQUESTS)
    await s.stated("MobilizationRevised", request_id)
    return raw(s.signed("PledgeOffered", pledge_data(request_id, "AZ-2"), "AZ"), INBOX_PLEDGES)


@case("unknown-pledge", "has no pledge AZ-9")
async def an_acceptance_of_nothing(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", pledge_id="AZ-9")


@case("over-accepted", "5 of 4 offered")
async def an_acceptance_of_more_than_was_offered(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", quantity=5)


@case("over-accepted", "4 departed of 3 accepted")
async def a_departure_of_more_than_was_accepted(s: Stranger) -> Raw:
    request_id = await pledged(s)
    await accepted(s, request_id, 3)
    return await answer(s, "ResourceDeparted", "AZ", request_id, quantity=4)


@case("too-late", "the offer expired at 2023-02-08T00:00:00Z")
async def an_acceptance_of_an_expired_offer(s: Stranger) -> Raw:
    request_id = await pledged(s, offer_expires_at="2023-02-08T00:00:00Z")
    return await answer(s, "PledgeAccepted", request_id=request_id)


@case("not-allowed", "is for TR to say, not KZ")
async def an_acceptance_by_another_state(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", "KZ")


@case("not-allowed", "is for AZ to say, not TR")
async def a_pledge_withdrawn_by_who_gets_it(s: Stranger) -> Raw:
    return await answer(s, "PledgeWithdrawn", "TR")


@case("not-allowed", "pledge_id AZ-1 is taken")
async def a_pledge_id_that_is_taken(s: Stranger) -> Raw:
    request_id = await pledged(s)
    return raw(s.signed("PledgeOffered", pledge_data(request_id, quantity=9), "AZ"), INBOX_PLEDGES)


@case("not-allowed", "pledge_revision: 2, but the last is 1")
async def an_acceptance_of_a_later_revision(s: Stranger) -> Raw:
    return await answer(s, "PledgeAccepted", pledge_revision=2)


@case("not-allowed", "it cannot depart")
async def a_departure_of_what_was_withdrawn(s: Stranger) -> Raw:
    request_id = await pledged(s)
    withdrawn = {**builders.EXAMPLES["PledgeWithdrawn"], "request_id": request_id}
    await s.admit(s.signed("PledgeWithdrawn", withdrawn, "AZ"), INBOX_PLEDGES)
    return await answer(s, "ResourceDeparted", "AZ", request_id)


@case("not-allowed", "1 arrived of 0 departed")
async def an_arrival_before_the_departure(s: Stranger) -> Raw:
    request_id = await pledged(s)
    await accepted(s, request_id, 4)
    return await answer(s, "ResourceArrived", "AZ", request_id)


# --- the state of things: members and keys ---


@case("stale", "serial 1 is taken")
async def a_registration_with_an_old_serial(s: Stranger) -> Raw:
    return raw(await s.registration("KZ", ["vote"], Ed25519Key.generate(), serial=1), INBOX_GOVERNANCE)


@case("not-allowed", "it goes on from there")
async def a_registration_beside_the_chain(s: Stranger) -> Raw:
    previous = builders.digest("another")
    return raw(await s.registration("KZ", ["vote"], Ed25519Key.generate(), previous=previous), INBOX_GOVERNANCE)


@case("not-allowed", "is registered already, of")
async def a_key_registered_twice(s: Stranger) -> Raw:
    return raw(await s.registration("TR", ["vote"], s.state_key("TR")), INBOX_GOVERNANCE)


# --- amendments and revisions ---


def amendment(data: dict[str, Any], revision: int, **changes: Any) -> dict[str, Any]:
    """The whole content again, with its revision."""
    return {**data, "revision": revision, **changes}


@case("stale", "revision: 2, and 2 is there")
async def an_amendment_twice(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    await s.admit(s.signed("RequestAmended", amendment(data, 2)), INBOX_REQUESTS)
    return raw(s.signed("RequestAmended", amendment(data, 2, text="another")), INBOX_REQUESTS)


@case("not-allowed", "2 is the next")
async def an_amendment_too_far(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    return raw(s.signed("RequestAmended", amendment(data, 3)), INBOX_REQUESTS)


@case("bad-data", "is not the source's state 'KZ'")
async def an_amendment_by_another_state(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    return raw(s.signed("RequestAmended", amendment(data, 2), "KZ"), INBOX_REQUESTS)


@case("duplicate-request", "is anticipated")
async def a_request_anticipated_twice(s: Stranger) -> Raw:
    data = {name: s.new_request()[name] for name in ("request_id", "affected_state", "mode", "emergency")}
    await s.admit(s.signed("RequestAnticipated", data), INBOX_REQUESTS)
    return raw(s.signed("RequestAnticipated", data), INBOX_REQUESTS)


@case("too-late", "another ballot took the place")
async def a_vote_on_a_superseded_ballot(s: Stranger) -> Raw:
    data = s.new_request()
    await s.admit(s.signed("RequestRaised", data), INBOX_REQUESTS)
    vote = await s.vote_data(data["request_id"])
    await s.admit(s.signed("RequestAmended", amendment(data, 2)), INBOX_REQUESTS)
    await s.stated("BallotSuperseded", data["request_id"])
    return raw(s.signed("VoteCast", vote, "KZ"), INBOX_VOTES)


@case("stale", "pledge_revision: 1 was replaced by 2")
async def an_acceptance_of_what_was_revised(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.offered(request_id, "AZ-1")
    revised = {**pledge_data(request_id), "quantity": 2, "revision": 2}
    await s.admit(s.signed("PledgeRevised", revised, "AZ"), INBOX_PLEDGES)
    answer = {"request_id": request_id, "pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 2}
    return raw(s.signed("PledgeAccepted", answer), INBOX_PLEDGES)


@case("rate-limited", "1000 times")
async def an_answer_too_many(s: Stranger) -> Raw:
    request_id = await s.raised()
    await s.offered(request_id, "AZ-1")
    answer = {"request_id": request_id, "pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 2}
    for _ in range(0, MAX_CHANGES, 50):
        some = [raw(s.signed("PledgeAccepted", answer), INBOX_PLEDGES) for _ in range(50)]
        await asyncio.gather(*map(s.put, some))
    return raw(s.signed("PledgeAccepted", answer), INBOX_PLEDGES)


# --- the tests ---


def test_every_reason_is_tested() -> None:
    """The table misses none of the contract's."""
    assert {one.reason for one in CASES} == set(get_args(Reason))


@pytest.mark.parametrize("one", CASES, ids=str)
async def test_a_bad_record_is_refused_and_blocks_nothing(stranger: Stranger, one: Case) -> None:
    """The inbox's owner gives the reason and the whole original, and what is behind it goes through."""
    sent = await one.make(stranger)
    place = await stranger.put(sent)
    rejection = await stranger.rejection(place)

    assert rejection.event.source == sender(place.topic, stranger.network)
    said = rejection.data
    assert (said["source_topic"], said["partition"], said["offset"]) == (
        place.topic,
        place.partition,
        place.offset,
    )
    assert (said["reason"], one.says in said["detail"]) == (one.reason, True), said["detail"]
    assert said["original_base64"] == (None if one.reason == "too-large" else original(sent))
    await stranger.good(place.topic, place.partition)


def original(sent: Raw) -> str:
    """What `original_base64` must be: the record that was sent."""

    def encoded(content: bytes | None) -> str | None:
        return None if content is None else base64.b64encode(content).decode()

    headers = [[name, encoded(content)] for name, content in sent.headers]
    if sent.broken_name is not None:
        headers.append([sent.broken_name.decode("utf-8", "replace"), ""])
    whole = {"key": encoded(sent.key), "headers": headers, "value": encoded(sent.value)}
    return base64.b64encode(json.dumps(whole, ensure_ascii=False).encode()).decode()


async def test_a_broken_name_costs_only_its_own_record(stranger: Stranger) -> None:
    """A batch is read whole, whatever one of its records holds (DESIGN "Kafka clients")."""
    events = [stranger.signed("RequestRaised", stranger.new_request(partition=7)) for _ in range(3)]
    records = [raw(event, INBOX_REQUESTS) for event in events]
    records[1] = replace(records[1], broken_name=b"\xc3(")
    places = await stranger.put_batch(records)
    outcomes = [await stranger.outcome(*pair) for pair in zip(places, events, strict=True)]
    assert [one.name for one in outcomes] == ["RequestRaised", "SubmissionRejected", "RequestRaised"]
    assert outcomes[1].data["reason"] == "bad-envelope"


async def test_a_flood_of_forgeries_holds_nobody_up(stranger: Stranger) -> None:
    """An unknown key is looked for in `members` once a batch, not once a record."""
    nobody = Ed25519Key.generate()
    await stranger.good(INBOX_REQUESTS.name, 4)
    for _ in range(10):
        data = [stranger.new_request(partition=4) for _ in range(20)]
        forged = [raw(stranger.signed("RequestRaised", each, key=nobody), INBOX_REQUESTS) for each in data]
        await stranger.put_batch(forged)
    async with asyncio.timeout(3):
        await stranger.good(INBOX_REQUESTS.name, 4)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_may_be_compressed_as_every_client_can(stranger: Stranger, codec: str) -> None:
    """A codec that a reader has no library for would block its partition for ever."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    (place,) = await stranger.put_batch([raw(event, INBOX_REQUESTS)], codec)
    assert (await stranger.outcome(place, event)).name == "RequestRaised"


async def test_what_a_stranger_claims_beside_the_core_does_not_reach_the_public_topic(
    stranger: Stranger,
) -> None:
    """Of a submission's extensions only `correlationid` and `traceparent` stay (CONTRACT "Envelope")."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    claims = {
        "position": "0000000099",
        "mode": "actual",
        "recordedtime": "1999-01-01T00:00:00Z",
        "step": "0",
        "membersoffset": "0",
        "causationid": "nothing",
        "urgency": "7",
        "correlationid": "ours-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    claimed = replace(event, extensions={**event.extensions, **claims})
    admitted = (await stranger.admit(claimed, INBOX_REQUESTS)).event
    kept = {name: value for name, value in admitted.extensions.items() if claims.get(name) == value}
    assert set(kept) == {"correlationid", "traceparent"}
    assert admitted.extensions["mode"] == "test"
    assert admitted.extensions["position"] == "0000000001"
    assert "urgency" not in admitted.extensions
    assert replace(admitted, extensions={}) == replace(event, extensions={})


async def test_a_record_of_exactly_the_limit_is_admitted(stranger: Stranger) -> None:
    """256 KiB are not too large, and what makes them so does not reach the public topic."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    record = padded(raw(event, INBOX_REQUESTS), RECORD_LIMIT_BYTES)
    assert record.size() == RECORD_LIMIT_BYTES
    admitted = await stranger.outcome(await stranger.put(record), event)
    assert (admitted.name, admitted.event.data) == ("RequestRaised", event.data)


# --- repetitions ---


def same_bytes(event: Event) -> Raw:
    return raw(event, INBOX_REQUESTS)


def white_space_in_the_material(event: Event) -> Raw:
    return raw(replace(event, dssematerial=encoded_json(dsse(event), indent=3)), INBOX_REQUESTS)


def unknown_members_in_the_material(event: Event) -> Raw:
    whole = dsse(event)
    whole["signatures"][0]["cert"] = "none"
    return raw(with_dsse(event, {"later": [1, None], **whole}), INBOX_REQUESTS)


def other_extensions_and_headers(event: Event) -> Raw:
    more = replace(event, extensions={**event.extensions, "traceparent": "00-1-1-00", "urgency": "7"})
    return raw(more, INBOX_REQUESTS).header("x-note", "ş".encode())


def headers_in_another_order(event: Event) -> Raw:
    record = raw(event, INBOX_REQUESTS)
    return replace(record, headers=record.headers[::-1])


def the_structured_mode(event: Event) -> Raw:
    return structured({**to_structured(event), "dataschema": None, "urgency": 7}, event)


def a_fraction_of_the_same_second(event: Event) -> Raw:
    assert event.time is not None
    return raw(replace(event, time=f"{event.time[:19]}.987654Z"), INBOX_REQUESTS)


RESPELLINGS = (
    same_bytes,
    white_space_in_the_material,
    unknown_members_in_the_material,
    other_extensions_and_headers,
    headers_in_another_order,
    the_structured_mode,
    a_fraction_of_the_same_second,
)


async def test_the_same_core_again_is_silent_however_it_is_spelled(stranger: Stranger) -> None:
    """No second effect, no rejection; also of what was refused, whatever came of it."""
    good = stranger.signed("RequestRaised", stranger.new_request())
    data = {**stranger.new_request(topics.partition_of(str(good.subject))), "needs": []}
    bad = stranger.signed("RequestRaised", data)
    admitted = await stranger.admit(good, INBOX_REQUESTS)
    await stranger.rejection(await stranger.put(raw(bad, INBOX_REQUESTS)))

    places = [await stranger.put(respell(event)) for event in (good, bad) for respell in RESPELLINGS]
    await two_good_ones(stranger, admitted.partition)
    rejected = {message.event.subject for message in await stranger.client.read([topics.REJECTIONS])}
    assert rejected.isdisjoint(map(str, places))
    public = await stranger.client.read([topics.REQUESTS], good.subject)
    assert [message.event.subject for message in public].count(good.subject) == 1


async def test_what_waits_is_not_counted_twice_either(stranger: Stranger) -> None:
    """An offer that came before its request and was repeated meanwhile becomes one pledge."""
    data = stranger.new_request()
    offer = stranger.signed("PledgeOffered", pledge_data(data["request_id"]), "AZ")
    places = [await stranger.put(raw(offer, INBOX_PLEDGES)) for _ in range(3)]
    await stranger.admit(stranger.signed("RequestRaised", data), INBOX_REQUESTS)
    admitted = await stranger.outcome(places[0], offer)
    places.append(await stranger.put(raw(offer, INBOX_PLEDGES)))
    for _ in range(2):
        await stranger.good(INBOX_PLEDGES.name, admitted.partition)
    rejected = {message.event.subject for message in await stranger.client.read([topics.REJECTIONS])}
    assert rejected.isdisjoint(map(str, places))
    public = await stranger.client.read([topics.PLEDGES], data["request_id"])
    assert [message.event.id for message in public].count(offer.id) == 1


async def test_a_forgery_burns_nobodys_id(stranger: Stranger) -> None:
    """What fails before `key-scope` is past is not remembered."""
    event = stranger.signed("RequestRaised", stranger.new_request())
    forged = replace(event, data=event.data.replace(b'"quantity":10', b'"quantity":99'))
    foreign = stranger.signed(
        "RequestRaised", forged.data, key=stranger.state_key("AZ"), id=event.id, subject=event.subject
    )
    for bad in (forged, foreign):
        await stranger.rejection(await stranger.put(raw(bad, INBOX_REQUESTS)))
    await stranger.admit(event, INBOX_REQUESTS)


async def test_the_same_id_of_another_state_is_another_event(stranger: Stranger) -> None:
    """Identity is (inbox topic, partition, source, id)."""
    request_id = await stranger.raised()
    for state in ("AZ", "KZ"):
        data = pledge_data(request_id, f"{state}-1")
        await stranger.admit(stranger.signed("PledgeOffered", data, state, id="one"), INBOX_PLEDGES)
    vote = stranger.signed("VoteCast", await stranger.vote_data(request_id), "KZ", id="one")
    await stranger.admit(vote, INBOX_VOTES)


async def two_good_ones(stranger: Stranger, partition: int) -> None:
    """When the second is read, whatever its lane had to say before the first stands on its topic."""
    for _ in range(2):
        await stranger.good(INBOX_REQUESTS.name, partition)


# --- spelling ---


def dsse(event: Event) -> dict[str, Any]:
    """The DSSE envelope of a signed event."""
    assert event.dssematerial is not None
    whole: dict[str, Any] = json.loads(from_base64(event.dssematerial))
    return whole


def with_dsse(event: Event, whole: dict[str, Any]) -> Event:
    """The event with another envelope."""
    return replace(event, dssematerial=encoded_json(whole))


def encoded_json(whole: object, indent: int | None = None) -> str:
    """base64 of JSON, with white space as wanted."""
    return to_base64(json.dumps(whole, indent=indent).encode())


def signed_as(event: Event, key: SigningKey, payload_type: str, more: dict[str, str]) -> Event:
    """Signed in a form that is not the contract's."""
    payload = json.dumps({"core": to_base64(core_digest(event)), **more}).encode()
    signature = {"keyid": key.key_id, "sig": to_base64(key.sign(pae(payload_type, payload)))}
    whole = {"payload": to_base64(payload), "payloadType": payload_type, "signatures": [signature]}
    return with_dsse(event, whole)


def structured(members: dict[str, Any], event: Event) -> Raw:
    """A record in structured mode."""
    value = json.dumps(members).encode()
    headers: list[tuple[str, bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    return Raw(INBOX_REQUESTS, str(event.subject).encode(), value, headers)


# --- what takes too long for the real topic ---


class Lane:
    """A pledge lane's memory: each call one transaction, nothing written anywhere."""

    def __init__(self) -> None:
        source, key = service_source(builders.NETWORK, "pledge"), Ed25519Key.generate()
        self._publisher = Publisher(source, key)
        self._registry = Registry(Root(network=builders.NETWORK, keys=[]))
        self._key_id = key.key_id
        self._seen: dict[tuple[str, str], bytes] = {}
        self._offset = 0
        row = LaneRow(1, {}, 0, 0, builders.T0, {})
        self.committed: Committed[State] = Committed.loaded(0, row, {}, [], PledgeHandlers())

    def take(self, *offers: PledgeOffered, at_s: float) -> Iterator[tuple[str, str]]:
        """Handles offers taken so many seconds after T0; gives reason and place of what is refused."""
        draft = Draft(
            self.committed,
            PledgeHandlers(),
            self._publisher,
            self._registry,
            self._key_id,
            self._seen,
            {},
        )
        at = builders.T0 + timedelta(seconds=at_s)
        for offer in offers:
            incoming = builders.incoming(offer, at=at, offset=self._offset)
            key, value, headers = to_kafka(incoming.event)
            record = ConsumerRecord(
                INBOX_PLEDGES.name, 0, self._offset, to_millis(at), 1, key, value, None, 0, 0, tuple(headers)
            )
            draft.take_submission(record, Judgement(incoming, None, None, 0, incoming.event))
            self._offset += 1
        draft.apply()
        for outgoing, _ in draft.outgoing:
            data = json.loads(outgoing.value)
            yield data["reason"], f"{data['source_topic']}/{data['partition']}/{data['offset']}"


def offers(count: int, request_id: str = "TR-2023-0001", first: int = 1) -> list[PledgeOffered]:
    """As many offers on a request."""
    return [
        builders.example(PledgeOffered, request_id=request_id, pledge_id=f"AZ-{n}") for n in range(first, first + count)
    ]


def test_an_offer_waits_a_minute_of_log_time_and_no_longer() -> None:
    """It stands on a request that nobody raised; the next record at or after the minute brings the answer."""
    lane, wait_s = Lane(), WAIT.total_seconds()
    assert list(lane.take(*offers(2), at_s=0)) == []
    assert list(lane.take(*offers(1, "TR-2023-0002"), at_s=wait_s - 0.001)) == []
    refused = list(lane.take(*offers(1, "TR-2023-0003"), at_s=wait_s))
    assert refused == [("unknown-request", "inbox.pledges/0/0"), ("unknown-request", "inbox.pledges/0/1")]
    assert [parked.offset for waiting in lane.committed.parked.values() for parked in waiting] == [2, 3]


def test_no_more_than_a_thousand_wait_for_a_request() -> None:
    """What is beyond is refused at once, and the others wait on."""
    lane = Lane()
    assert list(lane.take(*offers(REQUEST_LIMIT), at_s=0)) == []
    assert list(lane.take(*offers(1, first=REQUEST_LIMIT + 1), at_s=1)) == [("unknown-request", "inbox.pledges/0/1000")]
    assert list(lane.take(*offers(1, "TR-2023-0002"), at_s=2)) == []
    assert sum(map(len, lane.committed.parked.values())) == REQUEST_LIMIT + 1
