"""Certificates, made with real keys, and what verification finds in them."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qalqan.certificate import Certificate, digest, verify_certificate, verify_chain, verify_event
from qalqan.envelope import Event, from_structured, to_structured
from qalqan.events import type_of
from qalqan.instants import parse_instant
from qalqan.signing import Ed25519Key, sign
from tests.unit.decisions import (
    ALL_SCOPES,
    DEADLINE,
    OPENED_AT,
    RAISED_AT,
    REQUEST_ID,
    STATES,
    Decision,
    Json,
    World,
    at,
    closing_event,
    source_of,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World.founded()


def reached(world: World) -> Decision:
    decision = Decision(world)
    for minutes, state in enumerate(("AZ", "KG", "KZ", "UZ"), start=1):
        decision.vote(state, "abstain" if state == "KG" else "approve", minutes)
    return decision


def cancelled(world: World, name: str = "RequestCancelled", **changes: Any) -> Json:
    return world.structured("TR", name, {"request_id": REQUEST_ID, "reason": "a mistake"} | changes)


def amended(world: World, **changes: Any) -> Json:
    data = Decision(world).request_data(revision=2) | changes
    return world.structured("TR", "RequestAmended", data)


# --- what holds ---------------------------------------------------------------------------------------------


def _extreme(world: World) -> Json:
    decision = Decision(world, severity="Extreme")
    decision.set_ballot(deadline="2023-02-06T07:30:00Z")
    return decision.vote("AZ").certificate("lapsed", "2023-02-06T07:30:00Z")


def _after_amendment(world: World) -> Json:
    decision = Decision(world)
    decision.request = from_structured(amended(world))
    decision.set_ballot(revision=2)
    return decision.certificate("lapsed", DEADLINE)


def _affected_is_no_member(world: World) -> Json:
    decision = Decision(world, roll=["AZ", "KZ"]).vote("AZ").vote("KZ", minutes=2)
    return decision.certificate()


def _alone(world: World) -> Json:
    return Decision(world, roll=["TR"]).certificate(serial=1, previous=None)


VALID: dict[str, Callable[[World], Json]] = {
    "reached": lambda w: reached(w).certificate(),
    "the affected state votes otherwise": lambda w: reached(w).vote("TR", "abstain", 9).certificate(),
    "the affected state objects": lambda w: reached(w).vote("TR", "object", 9).certificate("blocked"),
    "a correction is not the last record": lambda w: (
        Decision(w)
        .vote("AZ", minutes=3, says={"sequence": 2})
        .vote("KG")
        .vote("KZ")
        .vote("UZ", minutes=4)
        .certificate()
    ),
    "blocked when all have voted": lambda w: (
        Decision(w).vote("AZ", "object").vote("KG").vote("KZ").vote("UZ", "constructive-abstain").certificate("blocked")
    ),
    "blocked at the deadline": lambda w: Decision(w).vote("AZ", "object").certificate("blocked", DEADLINE),
    "lapsed": lambda w: Decision(w).vote("AZ").certificate("lapsed", DEADLINE),
    "lapsed at severity Extreme": _extreme,
    "cancelled": lambda w: Decision(w).vote("AZ").certificate("withdrawn", at(9), cause=cancelled(w)),
    "closed": lambda w: Decision(w).certificate("withdrawn", at(9), cause=cancelled(w, "RequestClosed")),
    "amended": lambda w: Decision(w).vote("AZ").certificate("superseded", at(9), cause=amended(w)),
    "on an amended request": _after_amendment,
    "the affected state is no member": _affected_is_no_member,
    "the affected state alone": _alone,
    "fields added later": lambda w: reached(w).certificate(summary={"new": [1.5, True, None]}),
}


@pytest.fixture(scope="module")
def valid_certificates(world: World) -> list[Json]:
    return [make(world) for make in VALID.values()]


@pytest.mark.parametrize("make", VALID.values(), ids=VALID.keys())
def test_valid(world: World, make: Callable[[World], Json]) -> None:
    certificate = make(world)
    assert verify_certificate(certificate, world.root) == []
    assert verify_event(closing_event(world, certificate), world.root) == []
    assert Certificate.model_validate(certificate).model_dump(mode="json")["inbox"] == certificate["inbox"]


def test_a_key_that_was_registered_anew(world: World) -> None:
    """The first registration covers the vote, a later one does not: each proves what falls in it."""
    world = copy.deepcopy(world)
    certificate = reached(world).certificate()
    certificate["keys"].append(world.register_key("KZ", valid_from="2024-01-01T00:00:00Z"))
    assert verify_certificate(certificate, world.root) == []


# --- what does not ------------------------------------------------------------------------------------------


def changed(path: str, value: Any) -> Callable[[World], Json]:
    """A reached certificate with a value set in its JSON: `counted.0.position`."""

    def make(world: World) -> Json:
        certificate = copy.deepcopy(reached(world).certificate())
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place: Any = certificate
        for step in steps:
            place = place[step]
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
        return certificate

    return make


REMOVED = object()


def on_ballot(**changes: Any) -> Callable[[World], Json]:
    """A certificate whose votes are on a ballot that is wrong from the start."""

    def make(world: World) -> Json:
        decision = Decision(world)
        decision.set_ballot(**changes)
        return decision.vote("AZ").vote("KG").vote("KZ").vote("UZ").certificate()

    return make


def on_request(data_changes: Json, **changes: Any) -> Callable[[World], Json]:
    """A certificate whose request is wrong, in its data or its envelope."""

    def make(world: World) -> Json:
        decision = Decision(world)
        decision.request = world.event("TR", "RequestRaised", decision.request_data(**data_changes), **changes)
        decision.set_ballot()
        return decision.vote("AZ").vote("KG").vote("KZ").vote("UZ").certificate()

    return make


def with_vote(**changes: Any) -> Callable[[World], Json]:
    """KZ's vote is not as it should be."""

    def make(world: World) -> Json:
        return Decision(world).vote("AZ").vote("KG").vote("UZ").vote("KZ", **changes).certificate()

    return make


def with_key(actor: str, **changes: Any) -> Callable[[World], Json]:
    """The key of an actor is registered otherwise, or `by` another."""

    def make(world: World) -> Json:
        world = copy.deepcopy(world)
        world.key_events[actor] = world.register_key(actor, **changes)
        return reached(world).certificate()

    return make


def with_member(state: str, **changes: Any) -> Callable[[World], Json]:
    def make(world: World) -> Json:
        world = copy.deepcopy(world)
        world.member_events[state] = world.register_member(state, **changes)
        return reached(world).certificate()

    return make


def without_key(actor: str) -> Callable[[World], Json]:
    def make(world: World) -> Json:
        return reached(world).certificate(keys=[event for name, event in world.key_events.items() if name != actor])

    return make


def foreign(world: World) -> Ed25519Key:
    return world.keys["UZ"]


def _vote_by_another(world: World) -> Json:
    return Decision(world).vote("AZ").vote("KG").vote("UZ").vote("KZ", key=foreign(world)).certificate()


def _request_by_another(world: World) -> Json:
    return on_request({}, key=foreign(world))(world)


def _vote_by_stranger(world: World) -> Json:
    return Decision(world).vote("AZ").vote("KG").vote("UZ").vote("KZ", key=Ed25519Key.generate()).certificate()


def _registered_by_state(world: World) -> Json:
    """A vote key that another state vouches for."""
    return with_key("KZ", by="UZ")(world)


def _registered_by_false_root(world: World) -> Json:
    world = copy.deepcopy(world)
    world.keys["root"] = Ed25519Key.generate()
    world.key_events["secretariat"] = world.register_key("secretariat", by="root")
    return reached(world).certificate()


def _second_member_history(world: World) -> Json:
    """The Secretariat said two things under one serial."""
    world = copy.deepcopy(world)
    world.serial -= 1
    certificate = reached(world).certificate()
    certificate["members"].append(world.register_member("KZ", names={"en": "Another"}))
    return certificate


def _broken_history(world: World) -> Json:
    world = copy.deepcopy(world)
    world.previous = "sha256:" + "1" * 64
    world.member_events["KZ"] = world.register_member("KZ")
    return reached(world).certificate()


def _late_member(world: World) -> Json:
    return on_ballot(members_offset=world.serial - 1)(world)


def _member_left_out(world: World) -> Json:
    decision = Decision(world, roll=["AZ", "KG", "TR", "UZ"]).vote("AZ").vote("KG").vote("UZ")
    return decision.certificate(members=list(world.member_events.values()))


def _twice(world: World) -> Json:
    return Decision(world).vote("AZ").vote("KG").vote("KZ").vote("UZ").vote("UZ", "object").certificate()


def _not_on_the_roll(world: World) -> Json:
    decision = Decision(world, roll=["AZ", "KG", "TR", "UZ"]).vote("AZ").vote("KG").vote("UZ").vote("KZ")
    return decision.certificate()


def _late(world: World) -> Json:
    decision = Decision(world).vote("AZ").vote("KG").vote("UZ").vote("KZ", minutes=24 * 60)
    return decision.certificate()


def _request_replaced(world: World) -> Json:
    certificate = reached(world).certificate()
    other = world.structured("TR", "RequestRaised", Decision(world).request_data(text="more"))
    return certificate | {"request": other}


def _cause_by_another(world: World) -> Json:
    cause = world.structured("UZ", "RequestCancelled", {"request_id": REQUEST_ID, "reason": "no"})
    return Decision(world).certificate("withdrawn", at(9), cause=cause)


def _withdrawn(cause: Callable[[World], Json | None], outcome: str = "withdrawn") -> Callable[[World], Json]:
    return lambda world: Decision(world).vote("AZ").certificate(outcome, at(9), cause=cause(world))


def _revoked_scope(state: str, scope: str) -> Callable[[World], Json]:
    return with_key(state, scopes=[other for other in ALL_SCOPES if other != scope])


INVALID: dict[str, tuple[Callable[[World], Json], str]] = {
    # the form
    "no version": (changed("version", REMOVED), r"certificate\.version: Field required"),
    "another version": (changed("version", 2), r"certificate\.version: "),
    "version true": (changed("version", True), r"certificate\.version: "),
    "unknown outcome": (changed("outcome", "won"), r"certificate\.outcome: "),
    "serial a text": (changed("serial", "17"), r"certificate\.serial: "),
    "serial 0": (changed("serial", 0), r"certificate\.serial: "),
    "no previous": (changed("previous", REMOVED), r"certificate\.previous: Field required"),
    "no cause": (changed("cause", REMOVED), r"certificate\.cause: Field required"),
    "ballot a list": (changed("ballot", []), r"certificate\.ballot: "),
    "an instant with an offset": (
        changed("decided_at", "2023-02-06T01:34:00+00:00"),
        r"decided_at: not an instant",
    ),
    "counted null": (changed("counted", None), r"certificate\.counted: "),
    "keys of numbers": (changed("keys", [1]), r"certificate\.keys\[0\]: "),
    "a lone surrogate": (changed("chain", "\ud800"), r"certificate: "),
    "beyond 2^53": (changed("serial", 2**53), r"certificate: "),
    # the ballot
    "ballot changed after the votes": (
        changed("ballot.round", 2),
        r"counted\[0\] \(AZ\): the vote's ballot_id is ",
    ),
    "another network's ballot": (on_ballot(network="live"), r"ballot: of network 'live', not of test-1"),
    "affected state": (on_ballot(affected_state="UZ"), r"ballot: request TR-2023-0001 is not one of UZ"),
    "round 0": (on_ballot(round=0), r"ballot: round 0"),
    "no items": (on_ballot(items=[]), r"ballot: items are missing"),
    "items twice": (on_ballot(items=["N1", "N1"]), r"ballot: items are missing, or one stands twice"),
    "items that are no needs": (on_ballot(items=["N1", "N9"]), r"request: no needs of it.*: N9"),
    "rule unknown": (
        on_ballot(rule={"rule_id": "m", "kind": "majority", "window": "PT24H", "window_at_risk": "PT6H"}),
        r"ballot: a rule of kind 'majority'",
    ),
    "a window beyond all calendars": (
        on_ballot(rule={"rule_id": "c", "kind": "consensus", "window": "P999999999D", "window_at_risk": "PT6H"}),
        r"request: the window of its ballot ends beyond all calendars",
    ),
    "deadline too early": (
        on_ballot(deadline=at(9)),
        r"request: the ballot's deadline is 2023-02-06T01:39:00Z",
    ),
    "negative offset": (on_ballot(governance_offset=-1), r"ballot: an offset is negative"),
    "roll empty": (on_ballot(roll=[]), r"ballot: the roll is empty"),
    "roll not sorted": (on_ballot(roll=["KG", "AZ", "KZ", "TR", "UZ"]), r"ballot: the roll is not sorted"),
    "roll twice": (
        on_ballot(roll=["AZ", "AZ", "KG", "KZ", "TR", "UZ"]),
        r"ballot: the roll is not sorted, or",
    ),
    "mode": (on_ballot(mode="exercise"), r"request: mode actual, and exercise on the ballot"),
    "revision": (on_ballot(revision=2), r"request: revision 1, and 2 on the ballot"),
    "request_digest": (
        on_ballot(request_digest="sha256:" + "0" * 64),
        r"request: its digest is not the ballot's",
    ),
    # the roll
    "no MemberRegistered": (
        changed("members.2", REMOVED),
        r"ballot: KZ is on the roll, and there is no Member",
    ),
    "an observer": (
        with_member("KZ", status="observer"),
        r"ballot: KZ is on the roll, and was no member at 2023",
    ),
    "no member any more": (
        with_member("KZ", until=OPENED_AT),
        r"ballot: KZ is on the roll, and was no member",
    ),
    "no member yet": (
        with_member("KZ", **{"from": at(0.01)}),
        r"ballot: KZ is on the roll, and was no member",
    ),
    "registered too late": (_late_member, r"ballot: UZ was registered after members_offset 11"),
    "a member left out": (_member_left_out, r"ballot: KZ was a member, and is not on the roll"),
    "two histories": (_second_member_history, r"members\[5\]: another registration has the serial 12 too"),
    "a broken history": (
        _broken_history,
        r"the registration with serial 13 does not continue the one before",
    ),
    # the keys
    "no key of the Secretariat": (
        without_key("secretariat"),
        r"keys\[0\]: its key [0-9a-f]{64} is not among",
    ),
    "no key of a voter": (without_key("KZ"), r"counted\[2\] \(KZ\): its key [0-9a-f]{64} is not among"),
    "no key of the requester": (without_key("TR"), r"request: its key [0-9a-f]{64} is not among"),
    "no key of the issuer": (without_key("services/consensus"), r"keys: there is none of the issuer"),
    "registered by a state": (
        _registered_by_state,
        r"keys\[4\]: is from .*states/UZ', not from .*/secretariat",
    ),
    "registered by itself": (
        with_key("secretariat", by="secretariat"),
        r"registered by .*secretariat' and not by a",
    ),
    "root key not in root.json": (_registered_by_false_root, r"which is not in root\.json"),
    "root signs for a state": (
        with_key("KZ", by="root"),
        r"keys\[4\]: is from .*/root', not from .*/secretariat",
    ),
    "no possession": (with_key("KZ", possession=""), r"keys\[4\]: possession: not the key's own signature"),
    "an algorithm unknown": (
        with_key("KZ", algorithm="rsa"),
        r"keys\[4\]: public_key: unknown algorithm 'rsa'",
    ),
    "another's key_id": (with_key("KZ", key_id="0" * 64), r"keys\[4\]: key_id is not the SHA-256"),
    "a key of a service": (with_key("KZ", source=source_of("services/x"), scopes=[]), r"keys\[4\]: possession: "),
    "a key of a service, with a scope": (with_key("KZ", source=source_of("services/x")), r"keys\[4\]: scopes: "),
    "key not yet valid": (
        with_key("KZ", valid_from=at(3.01)),
        r"\(KZ\): its key .* was not valid at 2023-02-06T01:33",
    ),
    "key no longer valid": (
        with_key("KZ", valid_until=at(3)),
        r"\(KZ\): its key .* was not valid at 2023-02-06T01:33",
    ),
    "no scope vote": (
        _revoked_scope("KZ", "vote"),
        r"counted\[2\] \(KZ\): its key .* has not the scope `vote`",
    ),
    "no scope request": (_revoked_scope("TR", "request"), r"request: its key .* has not the scope `request`"),
    "request key too young": (
        with_key("TR", valid_from=OPENED_AT),
        r"request: its key .* was not valid at 2023",
    ),
    # the request
    "request by another's key": (
        _request_by_another,
        r"request: its key .* is registered for .*/states/UZ, not for",
    ),
    "request from another": (
        lambda w: on_request({}, source=source_of("UZ"), key=w.keys["UZ"])(w),
        r"request: is from .*states/UZ', not from .*states/TR",
    ),
    "another request": (_request_replaced, r"request: its digest is not the ballot's request_digest"),
    "a request's subject": (
        on_request({}, subject="TR-2023-0002"),
        r"request: subject 'TR-2023-0002', not TR-2023",
    ),
    "a request's id": (
        on_request({"request_id": "TR-2023-0002"}),
        r"request: request_id TR-2023-0002, and TR-2023-",
    ),
    "not a request": (
        on_request({}, type=type_of("RequestClosed")),
        r"request: is a 'qalqan\.RequestClosed\.v1', not",
    ),
    "no needs": (on_request({"needs": []}), r"request: data\.needs: "),
    "no JSON": (on_request({}, data=b"{"), r"request: data: \$: not JSON"),
    "unsigned request": (changed("request.dssematerial", REMOVED), r"request: dssematerial: missing"),
    "request's data changed": (
        changed("request.data_base64", "e30="),
        r"request: the signed digest is another",
    ),
    "request's data no base64": (changed("request.data_base64", "e30"), r"request: data_base64: not padded"),
    "request recorded too late": (
        changed("request_recorded_at", DEADLINE),
        r"request: recorded after the deadline",
    ),
    # the votes
    "a vote by another's key": (
        _vote_by_another,
        r"\(KZ\): its key .* is registered for .*states/UZ, not for",
    ),
    "a vote by a stranger": (_vote_by_stranger, r"\(KZ\): its key .* is not among the certificate's keys"),
    "a vote on another ballot": (
        with_vote(says={"ballot_id": "sha256:" + "0" * 64}),
        r"\(KZ\): the vote's ballot_id is sha256",
    ),
    "another round": (with_vote(says={"round": 2}), r"\(KZ\): the vote's round is 2, not 1"),
    "another request's vote": (
        with_vote(says={"request_id": "TR-2023-0002"}),
        r"\(KZ\): the vote's request_id is TR-2023-0002",
    ),
    "a vote's subject": (
        with_vote(event={"subject": "TR-2023-0002"}),
        r"\(KZ\): subject 'TR-2023-0002', not TR-2023",
    ),
    "another state's vote": (
        changed("counted.2.state", "UZ"),
        r"counted\[2\] \(UZ\): is from .*/states/KZ', not from",
    ),
    "the vote says another state": (
        with_vote(says={"state": "UZ"}),
        r"\(KZ\): the vote's state is UZ, not KZ",
    ),
    "another position": (
        changed("counted.1.position", "approve"),
        r"\(KG\): the vote's position is abstain, not app",
    ),
    "an objection without a reason": (
        with_vote(says={"position": "object"}),
        r"\(KZ\): data: an objection needs a `reason`",
    ),
    "not a vote": (
        with_vote(event={"type": type_of("RequestClosed")}),
        r"\(KZ\): is a 'qalqan\.RequestClosed\.v1'",
    ),
    "too late": (_late, r"counted\[3\] \(KZ\): recorded at 2023-02-07T01:30:00Z, not before the deadline"),
    "twice": (_twice, r"counted\[4\] \(UZ\): stands twice"),
    "not on the roll": (_not_on_the_roll, r"counted\[3\] \(KZ\): is not on the roll"),
    "a vote without a vote": (
        changed("counted.2.event", REMOVED),
        r"\(KZ\): is counted by a vote, and there is none",
    ),
    "a vote of nothing": (changed("counted.2.event", {}), r"counted\[2\] \(KZ\): data_base64: missing"),
    "approval for another": (
        changed("counted.2", {"state": "KZ", "position": "approve", "by": "request", "recorded_at": RAISED_AT}),
        r"\(KZ\): is counted by the request, which is another state's",
    ),
    "by request otherwise": (
        changed("counted.4.position", "abstain"),
        r"\(TR\): has the position abstain by the req",
    ),
    "by request and event": (
        changed("counted.4.event", {}),
        r"\(TR\): is counted by the request, and brings an event",
    ),
    "by request at another time": (
        changed("counted.4.recorded_at", at(1)),
        r"\(TR\): recorded_at is not the request's",
    ),
    "the request is not counted": (
        changed("counted.4", REMOVED),
        r"counted: TR is missing, whose request is its app",
    ),
    # the outcome
    "reached without all": (
        lambda w: Decision(w).vote("AZ").certificate("reached", DEADLINE),
        r"outcome: reached; by the rule it is lapsed",
    ),
    "reached against an objection": (
        lambda w: Decision(w).vote("AZ", "object").vote("KG").vote("KZ").vote("UZ").certificate(),
        r"outcome: reached; by the rule it is blocked",
    ),
    "a vote left out": (changed("counted.2", REMOVED), r"outcome: reached; by the rule it is lapsed"),
    "blocked by nobody": (changed("outcome", "blocked"), r"outcome: blocked; by the rule it is reached"),
    "lapsed though complete": (changed("outcome", "lapsed"), r"outcome: lapsed; by the rule it is reached"),
    "decided too early": (
        changed("decided_at", at(3)),
        r"decided_at: 2023-02-06T01:33:00Z; the last position needed",
    ),
    "decided at the deadline": (
        changed("decided_at", DEADLINE),
        r"decided_at: 2023-02-07T01:30:00Z; the last position",
    ),
    "lapsed before the deadline": (
        lambda w: Decision(w).vote("AZ").certificate("lapsed", at(9)),
        r"decided_at: .*; the deadline was at 2023-02-07",
    ),
    "last vote antedated": (
        changed("counted.3.recorded_at", at(3)),
        r"decided_at: 2023-02-06T01:34:00Z; the last",
    ),
    # the cause
    "withdrawn without a cause": (
        _withdrawn(lambda w: None),
        r"cause: missing, and the outcome is withdrawn",
    ),
    "reached with a cause": (
        lambda w: reached(w).certificate(cause=cancelled(w)),
        r"cause: there is one, and the outcome is reached",
    ),
    "withdrawn though complete": (
        lambda w: reached(w).certificate("withdrawn", at(9), cause=cancelled(w)),
        r"outcome: withdrawn, and every position was there: reached",
    ),
    "withdrawn by another": (_cause_by_another, r"cause: is from .*states/UZ', not from .*states/TR"),
    "superseded by a cancellation": (
        _withdrawn(cancelled, "superseded"),
        r"cause: is a 'qalqan\.RequestCancelled\.v1'",
    ),
    "withdrawn by an amendment": (
        _withdrawn(amended),
        r"cause: is a 'qalqan\.RequestAmended\.v1', not a qalqan",
    ),
    "another request's end": (
        _withdrawn(lambda w: cancelled(w, request_id="TR-2023-0002")),
        r"cause: request_id TR-2023-0002, and TR-2023-0001",
    ),
    "amended to nothing new": (
        _withdrawn(lambda w: amended(w, revision=1), "superseded"),
        r"cause: revision 1 amends nothing after revision 1",
    ),
    "cause's key": (
        lambda w: (
            with_key("TR", valid_until=at(9))(w) | {"outcome": "withdrawn", "decided_at": at(9), "cause": cancelled(w)}
        ),
        r"cause: its key .* was not valid at 2023-02-06T01:39",
    ),
    # the place
    "another inbox": (
        changed("inbox.topic", "inbox.pledges"),
        r"inbox: topic 'inbox\.pledges', not inbox\.votes",
    ),
    "another partition": (changed("inbox.partition", 11), r"inbox: partition 11; the request belongs to \d+"),
    "no range": (changed("inbox.to", 118), r"inbox: from 120 to 118 is no range"),
    "a range too short": (changed("inbox.to", 122), r"inbox: 3 records from 120 to 122, and 4 votes counted"),
    "another chain": (changed("chain", "decisions-11"), r"chain: 'decisions-11', not decisions-\d+"),
    "first with a previous": (
        changed("serial", 1),
        r"previous: sha256:0+ at serial 1; the first alone has none",
    ),
    "no previous later": (changed("previous", None), r"previous: null at serial 17"),
}


@pytest.mark.parametrize(("make", "reason"), INVALID.values(), ids=INVALID.keys())
def test_invalid(world: World, make: Callable[[World], Json], reason: str) -> None:
    certificate = make(world)
    reasons = verify_certificate(certificate, world.root)
    assert any(re.search(reason, found) for found in reasons), reasons
    assert all(found.isprintable() for found in reasons)


# --- the whole event ----------------------------------------------------------------------------------------


def restated(**changes: Any) -> Callable[[World], Event]:
    return lambda world: closing_event(world, reached(world).certificate(), **changes)


def resigned(**changes: Any) -> Callable[[World], Event]:
    """Changed after it was signed."""
    return lambda world: replace(restated()(world), **changes)


def _certificate_swapped(world: World) -> Event:
    """Another certificate than the one whose digest was stated; the issuer signs it all."""
    return restated(certificate=reached(world).certificate(serial=18))(world)


def _objection_restated(world: World) -> Event:
    certificate = Decision(world).vote("AZ", "object").certificate("blocked", DEADLINE)
    return closing_event(world, certificate, blocked_by=[{"state": "AZ", "reason": "other"}])


BROKEN_EVENTS: dict[str, tuple[Callable[[World], Event], str]] = {
    "another type": (
        resigned(type=type_of("ConsensusBlocked")),
        r"event: type is not what the certificate gives",
    ),
    "no closing type": (
        resigned(type=type_of("BallotOpened")),
        r"event: 'qalqan\.BallotOpened\.v1' closes no ballot",
    ),
    "changed data": (resigned(data=b"{}"), r"data\.request_id: Field required"),
    "no JSON": (resigned(data=b"[1"), r"event: \$: not JSON"),
    "unsigned": (resigned(dssematerial=None), r"event: dssematerial: missing"),
    "another id": (resigned(id="another"), r"event: the signed digest is another event's"),
    "an empty id": (resigned(id=""), r"event: id: empty"),
    "by another service": (
        restated(actor="services/pledge"),
        r"event: is from '.*/services/pledge', not from",
    ),
    "another mode beside": (resigned(extensions={"mode": "test"}), r"event: extension mode is not what"),
    "another key beside": (resigned(extensions={"partitionkey": "X"}), r"event: partitionkey is not what"),
    "tally": (restated(tally={"AZ": "approve"}), r"event: tally is not what the certificate gives"),
    "absent": (restated(absent=["KZ"]), r"event: absent is not what the certificate gives"),
    "blocked by nobody": (
        restated(blocked_by=[{"state": "KG", "reason": "x"}]),
        r"event: blocked_by is not what",
    ),
    "an objection reworded": (_objection_restated, r"event: blocked_by is not what the certificate gives"),
    "decided_at": (restated(decided_at=at(9)), r"event: decided_at is not what the certificate gives"),
    "request_id": (
        restated(request_id="TR-2023-0002"),
        r"event: request_id is not what the certificate gives",
    ),
    "ballot_id": (
        restated(ballot_id="sha256:" + "0" * 64),
        r"event: ballot_id is not what the certificate gives",
    ),
    "revision": (restated(revision=2), r"event: revision is not what the certificate gives"),
    "round": (restated(round=2), r"event: round is not what the certificate gives"),
    "mode": (restated(mode="test"), r"event: mode is not what the certificate gives"),
    "another certificate": (
        _certificate_swapped,
        r"event: decision_digest is not what the certificate gives",
    ),
    "no certificate": (restated(certificate={}), r"certificate\.version: Field required"),
    "certificate a list": (restated(certificate=[]), r"data\.certificate: "),
}


@pytest.mark.parametrize(("make", "reason"), BROKEN_EVENTS.values(), ids=BROKEN_EVENTS.keys())
def test_broken_event(world: World, make: Callable[[World], Event], reason: str) -> None:
    reasons = verify_event(make(world), world.root)
    assert any(re.search(reason, found) for found in reasons), reasons


def test_event_by_a_stranger(world: World) -> None:
    """The right source, another's key; and a key that was never registered."""
    event = restated()(world)
    for key in (world.keys["KZ"], Ed25519Key.generate()):
        forged = sign(replace(event, dssematerial=None), key)
        assert any(found.startswith("event: its key ") for found in verify_event(forged, world.root))


def test_another_root(world: World) -> None:
    certificate = reached(world).certificate()
    assert "keys[0]" in verify_certificate(certificate, World.founded().root)[0]
    other = world.root.model_copy(update={"network": "live"})
    assert any("of network" in reason for reason in verify_certificate(certificate, other))


# --- the chain ----------------------------------------------------------------------------------------------


def chain_of(world: World, length: int) -> list[Json]:
    certificates: list[Json] = []
    for serial in range(1, length + 1):
        decision = Decision(world)
        decision.set_ballot(round=serial)
        previous = digest(certificates[-1]) if certificates else None
        certificates.append(decision.certificate("lapsed", DEADLINE, serial=serial, previous=previous))
    return certificates


def test_chain(world: World) -> None:
    certificates = chain_of(world, 4)
    assert verify_chain([]) == []
    assert verify_chain(certificates) == []
    assert verify_chain(certificates[1:]) == []
    assert verify_chain([certificates[0], certificates[2]]) == [
        "certificate 2: serial 3 after 1",
        "certificate 2: previous is not the digest of the certificate before",
    ]
    assert verify_chain([certificates[0], certificates[0]])[-1] == (
        "certificate 2: closes the ballot that certificate 1 closed"
    )
    assert verify_chain([certificates[0] | {"outcome": "reached"}, certificates[1]]) == [
        "certificate 2: previous is not the digest of the certificate before"
    ]
    assert verify_chain([certificates[0], certificates[1] | {"chain": "decisions-0"}]) == [
        "certificate 2: chain 'decisions-0', after one of 'decisions-6'"
    ]
    assert verify_chain([certificates[0] | {"previous": "sha256:0"}]) == [
        "certificate 1: serial 1, but previous is not null"
    ]


@given(junk=st.lists(st.dictionaries(st.sampled_from(["serial", "chain", "previous", "ballot"]), st.from_type(object))))
@settings(max_examples=50, deadline=None)
def test_chain_of_anything(junk: list[Any]) -> None:
    verify_chain(junk)


# --- anything else ------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([*STATES, "approve", "object", "request", "vote", at(2), DEADLINE, 1, 2]),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    for key in list(value) if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0):
        yield value, key
        yield from places(value[key])


def meaning(certificate: Json) -> Json:
    """What of a certificate by itself is proven, or fixed by what is; the rest only the event proves."""

    def event(structured: Any) -> Any:
        core = ["id", "source", "specversion", "type", "subject", "time", "data_base64", "dssematerial"]
        return {name: structured[name] for name in core if structured.get(name) is not None}

    def entry(counted: Json) -> Json:
        known = {name: counted[name] for name in ("state", "position", "by")}
        if counted["by"] == "vote":
            return known | {"event": event(counted["event"])}
        return known | {"recorded_at": parse_instant(counted["recorded_at"]), "event": counted.get("event")}

    proven = {name: certificate[name] for name in ("version", "outcome", "cause", "chain")} | {
        "request": event(certificate["request"]),
        "counted": sorted(map(entry, certificate["counted"]), key=lambda counted: str(counted["state"])),
        "inbox": [certificate["inbox"][name] for name in ("topic", "partition")],
        "first": certificate["serial"] == 1,
    }
    if certificate["cause"] is None:  # else it is the instant of something that is not here
        proven["decided_at"] = parse_instant(certificate["decided_at"])
    if any(counted["by"] == "vote" for counted in certificate["counted"]):
        proven["ballot"] = certificate["ballot"]  # nobody signed its id otherwise
    return proven


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_change_of_meaning_goes_unseen(world: World, valid_certificates: list[Json], data: st.DataObject) -> None:
    """One place of a valid certificate is changed, removed, doubled, or gets another's value.

    Only an omission that leaves the outcome as it was cannot show (DESIGN "Trust": the inbox range makes it
    visible). And nothing raises.
    """
    original = data.draw(st.sampled_from(valid_certificates))
    certificate = copy.deepcopy(original)
    container, key = data.draw(st.sampled_from(list(places(certificate))))
    match data.draw(st.sampled_from(["replace", "remove", "double", "copy"])):
        case "replace":
            container[key] = data.draw(ANYTHING)
        case "remove":
            del container[key]
        case "double" if isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        case _:
            other, other_key = data.draw(st.sampled_from(list(places(certificate))))
            container[key] = copy.deepcopy(other[other_key])
    reasons = verify_certificate(certificate, world.root)
    assert all(reason.isprintable() for reason in reasons)
    verify_event(stated_anyhow(world, certificate), world.root)
    if not reasons:
        now, before = meaning(certificate), meaning(original)
        counted, counted_before = now.pop("counted"), before.pop("counted")
        if len(counted) < len(counted_before):
            before = {name: before[name] for name in now}
        assert now == before
        assert counted == counted_before or now["outcome"] != "reached"
        assert all(entry in counted_before for entry in counted)


def stated_anyhow(world: World, certificate: Json) -> Event:
    """The certificate in an event of an issuer who states anything."""
    try:
        data = {"certificate": certificate, "decided_at": DEADLINE, "request_id": REQUEST_ID}
        statement = {
            "ballot_id": "sha256:" + "0" * 64,
            "revision": 1,
            "round": 1,
            "mode": "actual",
            "tally": {},
        }
        return world.event("services/consensus", "ConsensusReached", data | statement | {
            "absent": [], "blocked_by": [], "decision_digest": "sha256:" + "0" * 64})  # fmt: skip
    except ValueError:
        assume(False)
        raise


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_change_of_an_event_goes_unseen(world: World, data: st.DataObject) -> None:
    """What is signed of a closing event, attribute by attribute."""
    structured = to_structured(restated()(world))
    name = data.draw(st.sampled_from(sorted(structured)))
    before = structured[name]
    structured[name] = data.draw(ANYTHING)
    try:
        event = from_structured(structured)
    except ValueError:
        return
    signed = name not in ("position", "time", "dssematerial")
    if signed and structured[name] != before and verify_event(event, world.root) == []:
        assert structured[name] is None
        assert name in ("mode", "partitionkey")


@given(junk=ANYTHING)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything_at_all(world: World, junk: Any) -> None:
    assert verify_certificate(junk, world.root)


def test_deep_and_circular(world: World) -> None:
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    circular: Json = reached(world).certificate()
    circular["counted"].append(circular)
    assert verify_certificate(deep, world.root)
    assert verify_certificate(circular, world.root)
    assert verify_chain([circular])
