"""From a fact to the record on its public topic: forwarded as signed, or stated and signed by the service."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.bus import Outgoing
from chassis.facts import Fact, Incoming, forwarded
from chassis.publication import Publisher, event_type, public_topic
from qalqan.envelope import Event, core_digest
from qalqan.events import (
    BallotOpened,
    ConsensusReached,
    MemberRegistered,
    MobilizationAuthorized,
    PledgeOffered,
    RequestRaised,
    SubmissionRejected,
    VoteCast,
    dump,
)
from qalqan.fields import Model
from qalqan.jsontext import parse
from qalqan.signing import PublicKey, read_material, verify
from qalqan.sources import service_source
from qalqan.topics import partition_of
from tests.unit.builders import NETWORK, REQUEST_ID, T0, example
from tests.unit.network import Network, event_of, key_of

NETWORK_OF_KEYS = Network()
CONSENSUS = service_source(NETWORK, "consensus")
PUBLISHER = Publisher(CONSENSUS, key_of(CONSENSUS))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def made(fact: Fact, **changes: Any) -> Outgoing:
    """The record of a fact, at position 3 of its request."""
    arguments: dict[str, Any] = {
        "mode": "exercise",
        "position": 3,
        "step": 17,
        "now": T0,
        "members_offset": 41,
        "cause": None,
    }
    return PUBLISHER.record(fact, changes.pop("subject", REQUEST_ID), **(arguments | changes))


def submitted(**extensions: str) -> Incoming:
    incoming = NETWORK_OF_KEYS.incoming(example(VoteCast), at=T0 + timedelta(milliseconds=125))
    event = replace(incoming.event, extensions={**incoming.event.extensions, **extensions})
    return replace(incoming, event=event)


def test_a_submission_is_forwarded_byte_for_byte() -> None:
    incoming = submitted()
    out = made(forwarded(incoming))
    event = event_of(out)
    assert out.topic == "votes"
    assert (out.key, out.value) == (REQUEST_ID.encode(), incoming.event.data)
    assert out.partition == partition_of(REQUEST_ID)
    assert replace(event, extensions={}) == replace(incoming.event, extensions={})
    assert core_digest(event) == core_digest(incoming.event)


def test_what_the_writer_sets_and_what_it_drops() -> None:
    """Of a submission's extensions two stay; what it claims of position, mode or time is nobody's word."""
    event = event_of(
        made(
            forwarded(
                submitted(
                    correlationid="c-1",
                    traceparent=TRACE,
                    causationid="mine",
                    position="0000000099",
                    mode="actual",
                    recordedtime="1999-01-01T00:00:00Z",
                    membersoffset="9",
                    step="9",
                    colour="red",
                )
            )
        )
    )
    assert event.extensions == {
        "partitionkey": REQUEST_ID,
        "correlationid": "c-1",
        "traceparent": TRACE,
        "mode": "exercise",
        "position": "0000000003",
        "recordedtime": "2023-02-06T03:00:00.125Z",
        "membersoffset": "41",
        "step": "17",
    }


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(lambda name: name not in Event.__slots__),
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20),
        max_size=5,
    )
)
def test_no_other_extension_gets_through(extensions: dict[str, str]) -> None:
    extensions.pop("partitionkey", None)
    event = event_of(made(forwarded(submitted(**extensions))))
    own = {"partitionkey", "mode", "position", "recordedtime", "membersoffset", "step"}
    assert set(event.extensions) - own == set(extensions) & {"correlationid", "traceparent"}


@pytest.mark.parametrize("model", [BallotOpened, ConsensusReached, MobilizationAuthorized])
def test_what_a_service_states_is_signed_and_says_what_it_says(model: type[Model]) -> None:
    event = event_of(made(Fact(example(model))))
    assert event.source == CONSENSUS
    assert event.subject == REQUEST_ID
    assert event.time == "2023-02-06T03:00:00Z"
    assert event.datacontenttype == "application/json"
    assert parse(event.data, max_string=None) == dump(example(model))
    key = key_of(CONSENSUS)
    verify(event, read_material(event), PublicKey.from_pem(key.public_pem, key.algorithm))
    assert "recordedtime" not in event.extensions


def test_it_is_signed_on_its_way_out_whenever_that_is() -> None:
    """What is stored has no signature; a record made of it gets the same one each time; nothing is signed twice, and
    nobody else's word at all."""
    stored = made(Fact(example(BallotOpened)))
    assert "ce_dssematerial" not in dict(stored.headers)
    out = PUBLISHER.sealed(stored)
    assert PUBLISHER.sealed(replace(stored)) == out
    assert PUBLISHER.sealed(out) is out
    unsigned = replace(stored, headers=[*made(forwarded(submitted())).headers])
    assert PUBLISHER.sealed(unsigned) is unsigned
    assert Publisher(service_source(NETWORK, "pledge"), key_of(CONSENSUS)).sealed(stored) is stored


def test_its_id_is_of_what_it_states_and_of_nothing_else() -> None:
    """The same statement after a crash is a repetition, whenever and in whichever transaction it is made
    again."""
    fact = Fact(example(BallotOpened))
    event = event_of(made(fact))
    later = event_of(made(fact, now=T0 + timedelta(days=1), step=99, members_offset=50))
    assert later.id == event.id
    others = [
        event_of(made(Fact(example(BallotOpened, inbox_from=1)))),
        event_of(made(fact, subject="TR-2023-0002")),
        event_of(made(Fact(example(MobilizationAuthorized)))),
        event_of(
            Publisher(service_source(NETWORK, "pledge"), key_of(CONSENSUS)).record(
                fact,
                REQUEST_ID,
                mode="test",
                position=1,
                step=1,
                now=T0,
                members_offset=1,
                cause=None,
            )
        ),
    ]
    assert len({event.id, *(other.id for other in others)}) == 5


def test_a_statement_names_its_cause_and_goes_on_with_its_trace() -> None:
    cause = submitted(correlationid="c-1", traceparent=TRACE, colour="red")
    extensions = event_of(made(Fact(example(ConsensusReached)), cause=cause)).extensions
    assert extensions["causationid"] == cause.event.id
    assert extensions["correlationid"] == "c-1"
    assert extensions["traceparent"] == TRACE
    assert "colour" not in extensions
    assert "causationid" not in event_of(made(forwarded(cause), cause=cause)).extensions


def test_only_topics_of_a_request_have_positions_and_a_mode() -> None:
    place = "inbox.votes/3/9"
    rejected = made(Fact(example(SubmissionRejected)), subject=place, mode=None, position=None)
    assert rejected.topic == "rejections"
    assert rejected.key == place.encode()
    assert rejected.partition == partition_of(place)
    assert not {"mode", "position"} & set(event_of(rejected).extensions)
    registration = NETWORK_OF_KEYS.incoming(MemberRegistered.model_validate(NETWORK_OF_KEYS.member_data("TM")))
    member = made(forwarded(registration), subject="TM", mode=None, position=None)
    assert (member.topic, member.partition, member.key) == ("members", 0, b"TM")
    assert not {"mode", "position"} & set(event_of(member).extensions)


def test_where_facts_stand() -> None:
    for model, topic in (
        (RequestRaised, "requests"),
        (PledgeOffered, "pledges"),
        (VoteCast, "votes"),
        (BallotOpened, "decisions"),
        (MobilizationAuthorized, "mobilizations"),
        (SubmissionRejected, "rejections"),
        (MemberRegistered, "members"),
    ):
        fact = Fact(example(model))
        assert public_topic(fact).name == topic
        assert event_type(fact).model is model
