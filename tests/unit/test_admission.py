"""Admission: the checks that need no state, in the contract's order, by bytes as they come from Kafka."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, product
from typing import Any, get_args

import pytest

from chassis.admission import Admission, Doubtful, Judgement, Record, original_base64, read_public
from qalqan.envelope import Event, core_digest, to_kafka
from qalqan.events import (
    TICK,
    KeyRegistered,
    MemberRegistered,
    Reason,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    Tick,
    VoteCast,
    dump,
)
from qalqan.fields import Model
from qalqan.jsontext import canonical
from qalqan.signing import Ed25519Key, SigningKey, sign
from qalqan.sources import service_source, state_source
from qalqan.topics import (
    INBOX_GOVERNANCE,
    INBOX_REQUESTS,
    INBOX_VOTES,
    RECORD_LIMIT_BYTES,
    REQUESTS,
    VOTES,
    Topic,
    partition_of,
)
from tests.unit.builders import EXAMPLES, NETWORK, REQUEST_ID, T0, example
from tests.unit.network import ROOT, SECRETARIAT, Network, key_of, record, root_with

KZ, UZ = (state_source(NETWORK, state) for state in ("KZ", "UZ"))
CONSENSUS = service_source(NETWORK, "consensus")
HOUR = timedelta(hours=1)

NETWORK_OF_KEYS = Network()
KEYS: dict[tuple[str, bool, bool], Ed25519Key] = {}
"""By source, whether it is valid, whether it may vote."""
for _source, _valid, _votes in product((KZ, UZ), (True, False), (True, False)):
    KEYS[_source, _valid, _votes] = Ed25519Key.generate()
    NETWORK_OF_KEYS.register_key(
        _source,
        KEYS[_source, _valid, _votes],
        scopes=["vote"] if _votes else ["pledge", "accept", "request", "track", "consent"],
        valid_until=None if _valid else "2023-02-06T03:00:00Z",
    )

ORDER: tuple[Reason, ...] = get_args(Reason)[:13]


def judge(
    taken: Record, inbox: Topic = INBOX_VOTES, own: str = CONSENSUS, network: Network = NETWORK_OF_KEYS
) -> Judgement:
    return Admission(inbox, network.registry, own).judge(taken, T0)


def reason(judgement: Judgement) -> str | None:
    return None if judgement.refused is None else judgement.refused.reason


def vote(wrong: frozenset[str] = frozenset()) -> Record:
    """KZ's vote with all of these faults in it."""
    said = {**EXAMPLES["VoteCast"], "state": "UZ" if "bad-data" in wrong else "KZ"}
    source = KZ.replace(NETWORK, "prod") if "wrong-network" in wrong else KZ
    signer: SigningKey = KEYS[
        UZ if "foreign-source" in wrong else KZ,
        "key-not-valid" not in wrong,
        "key-scope" not in wrong,
    ]
    if "unknown-key" in wrong:
        signer = Ed25519Key.generate()
    event = sign(
        Event(
            id="vote-1",
            source=source,
            type="qalqan.Greeting.v1" if "wrong-type" in wrong else "qalqan.VoteCast.v1",
            subject=REQUEST_ID,
            time="2023-02-06T02:59:00Z",
            datacontenttype="application/json",
            data=json.dumps(said).encode(),
        ),
        signer,
    )
    if "bad-signature" in wrong:
        event = replace(event, data=event.data + b" ")
    key, value, headers = to_kafka(event)
    if "key-mismatch" in wrong:
        key = b"TR-2023-0002"
    partition = partition_of(key.decode())
    if "wrong-partition" in wrong:
        partition = (partition + 1) % 12
    more: list[tuple[str, bytes | None]] = [*headers]
    if "bad-envelope" in wrong:
        more.append(("ce_id", b"vote-2"))
    if "too-large" in wrong:
        more.append(("ce_padding", bytes(RECORD_LIMIT_BYTES)))
    return record(INBOX_VOTES.name, partition, 7, T0, key, value, tuple(more))


def test_a_vote_as_it_should_be() -> None:
    taken = vote()
    judgement = judge(taken)
    assert judgement.refused is None
    incoming, identity = judgement.incoming, judgement.identity
    assert incoming is not None
    assert identity is not None
    assert (incoming.topic, incoming.partition, incoming.offset, incoming.recorded_at) == (
        "inbox.votes",
        taken.partition,
        7,
        T0,
    )
    assert isinstance(incoming.data, VoteCast)
    assert incoming.event.data == taken.value
    assert (incoming.source.kind, incoming.source.name) == ("state", "KZ")
    assert (identity.source, identity.id, identity.core) == (KZ, "vote-1", core_digest(incoming.event))
    assert judgement.members_offset == NETWORK_OF_KEYS.registry.next_offset


FAULTS = tuple(fault for fault in ORDER if fault != "duplicate-id")  # that one needs the lane's memory


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_fault_in_the_contracts_order_is_the_reason(count: int) -> None:
    """Every fault, every pair, every triple of faults in one record."""
    for wrong in combinations(FAULTS, count):
        assert reason(judge(vote(frozenset(wrong)))) == wrong[0], wrong


def test_all_faults_at_once_and_one_less_each_time() -> None:
    for n in range(len(FAULTS)):
        assert reason(judge(vote(frozenset(FAULTS[n:])))) == FAULTS[n]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passed_up_to_the_scope_is_remembered_and_nothing_else(fault: str) -> None:
    """A forgery burns nobody's id."""
    identity = judge(vote(frozenset({fault}))).identity
    assert (identity is not None) == (fault == "bad-data")


# --- each check in its corners -----------------------------------------------------------------------------


def test_the_limit_counts_key_value_and_headers_to_the_byte() -> None:
    taken = vote()
    size = sum(map(len, (taken.key, taken.value))) + sum(len(n) + len(v) for n, v in taken.headers)
    room = RECORD_LIMIT_BYTES - size - len("ce_padding")
    for extra, expected in ((0, None), (1, "too-large")):
        headers = (*taken.headers, ("ce_padding", b"x" * (room + extra)))
        padded = record(taken.topic, taken.partition, 0, T0, taken.key, taken.value, headers)
        assert reason(judge(padded)) == expected


@pytest.mark.parametrize(
    "header",
    [
        ("ce_id", None),
        ("\udcff", b"x"),
        ("ce_x", b"\xff"),
        ("ce_x", b""),
        ("ce_specversion", b"0.3"),
        ("x", None),
    ],
)
def test_headers_that_are_none(header: tuple[str, bytes | None]) -> None:
    taken = vote()
    headers = tuple(h for h in taken.headers if h[0] != header[0])
    spoilt = record(taken.topic, taken.partition, 0, T0, taken.key, taken.value, (*headers, header))
    assert reason(judge(spoilt)) == "bad-envelope"


@pytest.mark.parametrize("gone", ["ce_id", "ce_dssematerial", "ce_subject", "content-type", "ce_specversion"])
def test_attributes_that_are_missing(gone: str) -> None:
    taken = vote()
    headers = tuple(h for h in taken.headers if h[0] != gone)
    assert reason(judge(record(taken.topic, taken.partition, 0, T0, taken.key, taken.value, headers))) == "bad-envelope"


def test_a_record_without_value_or_without_key() -> None:
    taken = vote()
    assert reason(judge(record(taken.topic, taken.partition, 0, T0, taken.key, None, taken.headers))) == "bad-envelope"
    assert (
        reason(judge(record(taken.topic, taken.partition, 0, T0, None, taken.value, taken.headers))) == "key-mismatch"
    )


def test_a_partitionkey_unlike_the_subject() -> None:
    event = NETWORK_OF_KEYS.event(
        example(VoteCast), key=KEYS[KZ, True, True], extensions={"partitionkey": "TR-2023-0002"}
    )
    assert reason(judge(NETWORK_OF_KEYS.record(event))) == "key-mismatch"


@pytest.mark.parametrize("source", ["qalqan://prod/states/KZ", "https://kz.example/", "urn:kz"])
def test_sources_of_other_networks(source: str) -> None:
    event = sign(replace(voted(), source=source), KEYS[KZ, True, True])
    assert reason(judge(NETWORK_OF_KEYS.record(event))) == "wrong-network"


@pytest.mark.parametrize("path", ["states/kz", "states/KZ/x", "", "services/consensus", "secretariat", "root"])
def test_sources_that_are_not_the_keys(path: str) -> None:
    event = sign(replace(voted(), source=f"qalqan://{NETWORK}/{path}"), KEYS[KZ, True, True])
    assert reason(judge(NETWORK_OF_KEYS.record(event))) == "foreign-source"


def voted() -> Event:
    return NETWORK_OF_KEYS.event(example(VoteCast), key=KEYS[KZ, True, True])


@pytest.mark.parametrize(
    "type_", ["qalqan.VoteCast.v2", "qalqan.RequestRaised.v1", "qalqan.ConsensusReached.v1", "VoteCast"]
)
def test_types_that_do_not_belong_there(type_: str) -> None:
    event = sign(replace(voted(), type=type_), KEYS[KZ, True, True])
    assert reason(judge(NETWORK_OF_KEYS.record(event, topic=INBOX_VOTES))) == "wrong-type"


def test_the_window_is_judged_at_log_time_from_its_beginning_to_before_its_end() -> None:
    network = Network()
    network.register_key(
        KZ, Ed25519Key.generate(), valid_from="2023-02-06T03:00:00Z", valid_until="2023-02-06T04:00:00Z"
    )
    taken = network.record(network.event(example(VoteCast)))
    admission = Admission(INBOX_VOTES, network.registry, CONSENSUS)
    moment = timedelta(milliseconds=1)
    assert [reason(admission.judge(taken, at)) for at in (T0 - moment, T0, T0 + HOUR - moment, T0 + HOUR)] == [
        "key-not-valid",
        None,
        None,
        "key-not-valid",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "maybe"},
        {"position": "object"},
        {"position": "constructive-abstain"},
        {"sequence": 0},
        {"sequence": "1"},
        {"sequence": 2**53},
        {"round": 1.5},
        {"ballot_id": "sha256:0"},
        {"request_id": "TR-2023-0002"},
        {"state": "UZ"},
    ],
)
def test_data_that_is_not_the_contracts(changes: dict[str, Any]) -> None:
    said = json.dumps({**EXAMPLES["VoteCast"], **changes}).encode()
    event = sign(replace(voted(), data=said), KEYS[KZ, True, True])
    judgement = judge(NETWORK_OF_KEYS.record(event))
    assert reason(judgement) == "bad-data"
    assert judgement.refused is not None
    assert judgement.refused.detail


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"{} x"])
def test_data_that_is_no_json_object(data: bytes) -> None:
    event = sign(replace(voted(), data=data), KEYS[KZ, True, True])
    assert reason(judge(NETWORK_OF_KEYS.record(event))) == "bad-data"


def test_fields_may_be_added() -> None:
    said = json.dumps({**EXAMPLES["VoteCast"], "mood": "good"}).encode()
    assert reason(judge(NETWORK_OF_KEYS.record(sign(replace(voted(), data=said), KEYS[KZ, True, True])))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"affected_state": "KZ"},
        {"request_id": "KZ-2023-0001"},
        {"request_id": "TRNC-2023-1"},
        {"affected_state": "KZ", "request_id": "KZ-2023-0001"},
    ],
)
def test_a_state_speaks_for_itself(changes: dict[str, Any]) -> None:
    """The acting state and the prefix of a new id are the source's."""
    network = Network()
    event = network.event(example(RequestRaised, **changes), by="TR")
    assert reason(judge(network.record(event), INBOX_REQUESTS, network=network)) == "bad-data"


# --- structured mode ---------------------------------------------------------------------------------------


def test_a_structured_record_is_judged_as_the_binary_one() -> None:
    event = voted()
    whole = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": event.datacontenttype,
        "dssematerial": event.dssematerial,
        "data_base64": base64.b64encode(event.data).decode(),
    }
    headers = (("content-type", b"application/cloudevents+json"),)
    binary = judge(NETWORK_OF_KEYS.record(event))
    taken = record(
        INBOX_VOTES.name,
        partition_of(REQUEST_ID),
        0,
        T0,
        REQUEST_ID.encode(),
        json.dumps(whole).encode(),
        headers,
    )
    structured = judge(taken)
    assert structured.refused is None
    assert structured.identity == binary.identity


# --- the service's own, the Secretariat's, the root's ------------------------------------------------------


def tick(source: str, key: SigningKey) -> Record:
    event = Event(
        id="tick",
        source=source,
        type=TICK.type,
        subject=REQUEST_ID,
        time=None,
        datacontenttype="application/json",
        data=canonical(dump(Tick(at=T0))),
    )
    return NETWORK_OF_KEYS.record(sign(event, key), topic=INBOX_VOTES)


def test_a_tick_is_the_services_own_and_nobody_elses() -> None:
    own = judge(tick(CONSENSUS, key_of(CONSENSUS)))
    assert own.refused is None
    assert own.incoming is not None
    assert own.incoming.kind is TICK
    pledge = service_source(NETWORK, "pledge")
    for source, key in (
        (KZ, KEYS[KZ, True, True]),
        (pledge, key_of(pledge)),
        (SECRETARIAT, key_of(SECRETARIAT)),
    ):
        assert judge(tick(source, key)).refused is not None
    assert reason(judge(tick(CONSENSUS, KEYS[KZ, True, True]))) == "foreign-source"


def govern(event: Event, network: Network) -> str | None:
    secretariat = service_source(NETWORK, "secretariat")
    return reason(judge(network.record(event), INBOX_GOVERNANCE, secretariat, network))


def test_who_registers() -> None:
    """The Secretariat, and a root key for the Secretariat's; a state's key may not, whatever its scopes."""
    network = Network()
    member = MemberRegistered.model_validate(network.member_data("TM"))
    key = KeyRegistered.model_validate(network.key_data(SECRETARIAT, Ed25519Key.generate()))
    assert govern(network.event(member), network) is None
    assert govern(network.event(key, by=ROOT), network) is None
    assert govern(network.event(member, by=ROOT), network) == "key-scope"
    assert govern(network.event(member, by=KZ), network) == "key-scope"
    assert govern(network.event(member, by=service_source(NETWORK, "secretariat")), network) == "key-scope"
    stranger = Ed25519Key.generate()
    assert govern(network.event(key, by=ROOT, key=stranger), network) == "unknown-key"


def test_a_roots_signature_is_checked_too() -> None:
    network = Network()
    key = KeyRegistered.model_validate(network.key_data(SECRETARIAT, Ed25519Key.generate()))
    event = network.event(key, by=ROOT)
    assert govern(replace(event, data=event.data + b" "), network) == "bad-signature"


def test_a_registration_is_about_its_subject() -> None:
    network = Network()
    event = network.event(MemberRegistered.model_validate(network.member_data("TM")))
    moved = sign(replace(event, subject="KZ", extensions={}), key_of(SECRETARIAT))
    assert govern(moved, network) == "bad-data"


def test_a_root_key_out_of_its_window_registers_nobody() -> None:
    network = Network()
    network.registry.root = root_with(key_of(ROOT), valid_until="2023-02-06T03:00:00Z")
    key = KeyRegistered.model_validate(network.key_data(SECRETARIAT, Ed25519Key.generate()))
    assert govern(network.event(key, by=ROOT), network) == "key-not-valid"


def test_a_root_key_signs_for_the_root_alone() -> None:
    """It is known, and it is another's: `foreign-source`, not `unknown-key`."""
    network = Network()
    member = MemberRegistered.model_validate(network.member_data("TM"))
    assert govern(network.event(member, by=SECRETARIAT, key=key_of(ROOT)), network) == "foreign-source"


# --- what is read back -------------------------------------------------------------------------------------


def test_a_rejection_brings_the_whole_original() -> None:
    taken = record(INBOX_VOTES.name, 3, 9, T0, b"\xff\x00", None, (("a\udcff", b"\xfe"), ("Ж", None), ("b", b"")))
    whole = json.loads(base64.b64decode(original_base64(taken)))
    assert base64.b64decode(whole["key"]) == b"\xff\x00"
    assert whole["value"] is None
    assert [(name, value and base64.b64decode(value)) for name, value in whole["headers"]] == [
        ("a\ufffd", b"\xfe"),
        ("Ж", None),
        ("b", ""),
    ]


def test_a_public_record_is_read_as_its_writer_wrote_it() -> None:
    event = replace(voted(), extensions={"recordedtime": "2023-02-06T02:59:30.125Z", "position": "0000000001"})
    incoming = read_public(NETWORK_OF_KEYS.record(event, at=T0, topic=VOTES), NETWORK_OF_KEYS.registry)
    assert incoming.recorded_at == T0 - timedelta(seconds=29, milliseconds=875)
    assert incoming.data == example(VoteCast)
    event = replace(event, extensions={"position": "0000000001"})
    stated = read_public(NETWORK_OF_KEYS.record(event, at=T0, topic=VOTES), NETWORK_OF_KEYS.registry)
    assert stated.recorded_at == T0


@pytest.mark.parametrize(
    "position", [None, "", "x", "-1", "1", "0000000000", "00000000001", "0000000001\n", "\u0661" * 10]
)
def test_a_public_record_at_no_position_is_doubted(position: str | None) -> None:
    """A signed event, repeated under a position that no writer gives, or none: not a bug of ours, and no effect."""
    record_ = NETWORK_OF_KEYS.record(replace(voted(), extensions={"position": "0000000001"}), at=T0, topic=VOTES)
    headers = [(name, value) for name, value in record_.headers if name != "ce_position"]
    if position is not None:
        headers.append(("ce_position", position.encode()))
    with pytest.raises(Doubtful, match="position"):
        read_public(replace(record_, headers=tuple(headers)), NETWORK_OF_KEYS.registry)


def test_a_public_record_out_of_its_place_is_doubted() -> None:
    event = replace(voted(), extensions={"position": "0000000001"})
    record_ = NETWORK_OF_KEYS.record(event, at=T0, topic=VOTES)
    for moved in (replace(record_, partition=(record_.partition + 1) % 12), replace(record_, key=b"TR-2023-0002")):
        with pytest.raises(Doubtful, match=r"partition|key"):
            read_public(moved, NETWORK_OF_KEYS.registry)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"request_id":"\\u0000"}', b'{"a":1,"a":2}'])
def test_a_state_signs_on_a_public_topic_what_no_inbox_takes(data: bytes) -> None:
    event = sign(replace(voted(), data=data, dssematerial=None), KEYS[KZ, True, True])
    event = replace(event, extensions={"position": "0000000001"})
    with pytest.raises(Doubtful):
        read_public(NETWORK_OF_KEYS.record(event, at=T0, topic=VOTES), NETWORK_OF_KEYS.registry)


@pytest.mark.parametrize(
    ("end", "by", "position", "why"),
    [
        (RequestClosed, "TR", "0000000001", "begins no request"),
        (RequestCancelled, "TR", "0000000001", "begins no request"),
        (RequestCancelled, "KZ", "0000000002", "is no request of KZ"),
    ],
)
def test_a_request_is_ended_by_its_own_state_after_it_was_raised(
    end: type[Model], by: str, position: str, why: str
) -> None:
    """Written straight onto `requests` by a state: its signature holds, and it is no word of that request."""
    network, source = Network(), state_source(NETWORK, by)
    network.register_key(source, Ed25519Key.generate())
    event = replace(network.event(example(end), by=source), extensions={"position": position})
    with pytest.raises(Doubtful, match=why):
        read_public(network.record(event, at=T0, topic=REQUESTS), network.registry)
