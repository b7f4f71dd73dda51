"""The pure domain of the consensus service: the rule exhaustively, ballots by examples and properties."""

import contextlib
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.facts import Refused
from qalqan import topics
from qalqan.certificate import CLOSING, verify_certificate, verify_chain, verify_event
from qalqan.certificate.rules import RULES, Verdict
from qalqan.events import (
    BallotLapsed,
    BallotOpened,
    BallotWithdrawn,
    ConsensusBlocked,
    ConsensusReached,
    MandateEnded,
    Position,
    RuleRecord,
    VoteCast,
    dump,
    type_of,
)
from qalqan.jsontext import digest, digest_of
from qalqan.signing import Ed25519Key
from qalqan.sources import state_source
from services.consensus.domain import DEFAULT, Chain, Court, Rules, decide, due, due_at
from services.consensus.domain.closing import EVENT_OF
from services.consensus.domain.rules import Result, consensus
from tests.unit.builders import EXAMPLES, HOUR, REQUEST_ID, T0, example, need
from tests.unit.hearing import Hearing
from tests.unit.network import MEMBERS, Network

NETWORK = Network()
POSITIONS: tuple[Position, ...] = get_args(Position)
PARTITION = topics.partition_of(REQUEST_ID)
MINUTE = timedelta(minutes=1)
SEVERE = {**EXAMPLES["RequestRaised"]["emergency"], "severity": "Severe"}


def of(members: tuple[str, ...]) -> Network:
    """A network of these members; Hungary and Türkiye observe where they are none."""
    return Network(members, tuple(state for state in ("HU", "TR") if state not in members))


def assert_verified(hearing: Hearing) -> None:
    """What closed the ballot holds by the independent verifier, and the topics rebuild the state."""
    root = hearing.network.root
    assert verify_certificate(hearing.closing.certificate, root) == []
    assert verify_event(hearing.closing_event, root) == []
    assert hearing.rebuilt() == hearing.state


# --- the rule ----------------------------------------------------------------------------------------------


def model(roll: tuple[str, ...], taken: Mapping[str, Position | None], at_deadline: bool) -> Result | None:
    """CONTRACT "Rule `consensus`", sentence by sentence."""
    absent = [state for state in roll if taken.get(state) is None]
    objections = [state for state in roll if taken.get(state) == "object"]
    closes = (len(roll) > 0 and not absent) or at_deadline
    if not closes:
        return None
    if objections:
        return "blocked"
    if not absent and roll:
        return "reached"
    return "lapsed"


@pytest.mark.parametrize("size", range(6))
def test_the_rule_over_all_combinations(size: int) -> None:
    """Every position of every state, absence among them, before and at the deadline: 18,662 cases."""
    roll = MEMBERS[:size]
    for combination in product((*POSITIONS, None), repeat=size):
        taken = dict(zip(roll, combination, strict=True))
        positions = {state: position for state, position in taken.items() if position is not None}
        for at_deadline in (False, True):
            assert consensus(list(roll), positions, at_deadline) == model(roll, taken, at_deadline)


def test_only_the_roll_counts() -> None:
    """A position of a state beside the roll neither completes nor blocks."""
    assert consensus(["AZ"], {"AZ": "approve", "HU": "object"}, False) == "reached"
    assert consensus(["AZ", "KZ"], {"AZ": "approve", "HU": "approve"}, False) is None


@pytest.mark.parametrize("size", [1, 2, 3])
def test_whole_ballots_over_all_combinations(size: int) -> None:
    """Through opening, voting and deadline, each certificate checked by other code than made it.

    The affected state is on the roll: absent means that its request speaks for it.
    """
    roll = ("TR", "AZ", "KZ")[:size]
    network = of(tuple(sorted(roll)))
    for combination in product((*POSITIONS, None), repeat=size - 1):
        for own in (*POSITIONS, None) if size > 1 else (None,):
            taken = dict(zip(roll, (own, *combination), strict=True))
            hearing = Hearing(network)
            hearing.raised(T0)
            # The affected state first: the others' last vote closes.
            for n, (state, position) in enumerate(taken.items(), 1):
                if position is not None:
                    hearing.votes(state, position, at=T0 + n * MINUTE)
            hearing.time_comes(T0 + 6 * HOUR)
            positions = taken | {"TR": own or "approve"}
            expected = model(roll, positions, at_deadline=True)
            assert hearing.closing.certificate["outcome"] == expected
            assert hearing.closing.tally == {s: p for s, p in positions.items() if p is not None}
            assert_verified(hearing)


# --- opening -----------------------------------------------------------------------------------------------


def test_a_ballot_freezes_text_roll_rule_and_deadline() -> None:
    hearing = Hearing(NETWORK, offset=120)
    (opened,) = hearing.raised(T0, opened_at=T0 + MINUTE, needs=[need("N1"), need("N2")])
    assert isinstance(opened, BallotOpened)
    request = hearing.topics_written[0]
    assert dump(opened.ballot) == {
        "network": NETWORK.root.network,
        "mode": "actual",
        "request_id": REQUEST_ID,
        "revision": 1,
        "request_digest": digest(request.data),
        "round": 1,
        "items": ["N1", "N2"],
        "rule": {"rule_id": "consensus-1", "kind": "consensus", "window": "PT24H", "window_at_risk": "PT6H"},
        "roll": ["AZ", "KG", "KZ", "TR", "UZ"],
        "affected_state": "TR",
        "members_offset": NETWORK.registry.next_offset,
        "governance_offset": 0,
        "opened_at": "2023-02-06T03:01:00Z",
        "deadline": "2023-02-06T09:01:00Z",
    }
    assert opened.ballot_id == digest_of(dump(opened.ballot))
    assert opened.inbox_from == 120


@pytest.mark.parametrize(
    ("severity", "window"),
    [
        ("Extreme", 6 * HOUR),
        ("Severe", 24 * HOUR),
        ("Moderate", 24 * HOUR),
        ("Minor", 24 * HOUR),
        ("Unknown", 24 * HOUR),
    ],
)
def test_the_window_is_short_where_lives_are_at_risk(severity: str, window: timedelta) -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0, emergency={**SEVERE, "severity": severity})
    assert hearing.state is not None
    assert due_at(hearing.state) == T0 + window


def test_the_roll_has_the_members_of_that_moment_and_no_observer() -> None:
    network = of(("AZ", "TR"))
    network.register_member("KZ", **{"from": "2023-02-06T04:00:00Z"})
    network.register_member("UZ", until="2023-02-06T03:00:00Z")
    network.register_member("KG", status="partner")
    hearing = Hearing(network)
    (opened,) = hearing.raised(T0)
    assert isinstance(opened, BallotOpened)
    assert opened.ballot.roll == ["AZ", "TR"]


def test_a_roll_of_the_affected_state_alone_is_decided_at_once() -> None:
    """Its signed request is its approval; it was settled when the broker took that."""
    hearing = Hearing(of(("TR",)))
    opened, reached = hearing.raised(T0, opened_at=T0 + MINUTE)
    assert isinstance(opened, BallotOpened)
    assert isinstance(reached, ConsensusReached)
    assert reached.tally == {"TR": "approve"}
    assert reached.decided_at == T0
    assert reached.certificate["inbox"] == {
        "topic": "inbox.votes",
        "partition": PARTITION,
        "from": 100,
        "to": 99,
    }
    assert_verified(hearing)


def test_a_roll_without_states_is_never_in_consensus() -> None:
    """Nobody's silence is taken for consensus; such a ballot lapses."""
    hearing = Hearing(of(()))
    (opened,) = hearing.raised(T0)
    assert isinstance(opened, BallotOpened)
    assert opened.ballot.roll == []
    (lapsed,) = hearing.time_comes(T0 + 6 * HOUR)
    assert isinstance(lapsed, BallotLapsed)
    assert (lapsed.tally, lapsed.absent) == ({}, [])


def test_an_observer_that_is_affected_has_no_position_by_its_request() -> None:
    """Observers have a voice, no vote: Hungary's request is decided by the members, by all of them."""
    request_id = "HU-2024-0001"
    hearing = Hearing(NETWORK, request_id=request_id)
    hearing.chain = hearing.chain.of(topics.partition_of(request_id), {})
    hearing.raised(T0)
    with pytest.raises(Refused, match="not-eligible"):
        hearing.votes("HU", at=T0 + MINUTE)
    for state in MEMBERS[:-1]:
        assert len(hearing.votes(state, at=T0 + MINUTE)) == 1, "still open"
    _, reached = hearing.votes(MEMBERS[-1], at=T0 + 2 * MINUTE)
    assert isinstance(reached, ConsensusReached)
    assert reached.tally == dict.fromkeys(MEMBERS, "approve")
    assert [entry["by"] for entry in reached.certificate["counted"]] == ["vote"] * 5  # type: ignore[union-attr, call-overload, index]
    assert_verified(hearing)


# --- votes -------------------------------------------------------------------------------------------------


def test_consensus_needs_everybody_and_closes_with_the_last() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    for n, state in enumerate(("AZ", "KG", "KZ"), 1):
        assert hearing.votes(state, at=T0 + n * MINUTE) == [hearing.facts[-1].data]
    cast, reached = hearing.votes("UZ", "abstain", at=T0 + 4 * MINUTE)
    assert isinstance(cast, VoteCast)
    assert isinstance(reached, ConsensusReached)
    assert reached.tally == {
        "AZ": "approve",
        "KG": "approve",
        "KZ": "approve",
        "TR": "approve",
        "UZ": "abstain",
    }
    assert reached.absent == []
    assert reached.blocked_by == []
    assert reached.decided_at == T0 + 4 * MINUTE
    assert reached.certificate["inbox"] == {
        "topic": "inbox.votes",
        "partition": PARTITION,
        "from": 100,
        "to": 103,
    }
    assert hearing.state is not None
    assert hearing.state.decided
    assert due_at(hearing.state) is None
    assert_verified(hearing)


def test_an_objection_stands_until_the_end_and_names_its_reason() -> None:
    """It does not close the ballot: it may be corrected. Then it blocks."""
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    assert len(hearing.votes("KZ", "object", at=T0 + MINUTE)) == 1
    for state in ("AZ", "KG"):
        hearing.votes(state, at=T0 + MINUTE)
    _, blocked = hearing.votes("UZ", at=T0 + MINUTE)
    assert isinstance(blocked, ConsensusBlocked)
    assert [dump(objection) for objection in blocked.blocked_by] == [{"state": "KZ", "reason": "no overflight"}]
    assert_verified(hearing)


def test_an_objection_that_is_corrected_blocks_nothing() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.votes("KZ", "object", at=T0 + MINUTE)
    hearing.votes("KZ", "constructive-abstain", at=T0 + 2 * MINUTE, sequence=2)
    for state in ("AZ", "KG", "UZ"):
        hearing.votes(state, at=T0 + 3 * MINUTE)
    assert isinstance(hearing.closing, ConsensusReached)
    assert hearing.closing.tally["KZ"] == "constructive-abstain"
    assert_verified(hearing)


def test_the_affected_state_may_vote_otherwise_than_by_its_request() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.votes("TR", "object", at=T0 + MINUTE)
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + 2 * MINUTE)
    assert isinstance(hearing.closing, ConsensusBlocked)
    assert [objection.state for objection in hearing.closing.blocked_by] == ["TR"]
    assert_verified(hearing)


def test_sequences() -> None:
    """The highest counts; a lower one or the same once more is stale; the same number for two votes is an
    accusation."""
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.votes("KZ", "approve", at=T0 + MINUTE, sequence=5)
    with pytest.raises(Refused, match=r"^stale"):
        hearing.votes("KZ", "approve", at=T0 + 2 * MINUTE, sequence=5)
    with pytest.raises(Refused, match=r"^stale"):
        hearing.votes("KZ", "object", at=T0 + 2 * MINUTE, sequence=4)
    with pytest.raises(Refused, match=r"^equivocation"):
        hearing.votes("KZ", "object", at=T0 + 2 * MINUTE, sequence=5)
    with pytest.raises(Refused, match=r"^equivocation"):
        hearing.votes("KZ", "approve", at=T0 + 2 * MINUTE, sequence=5, reservation="not by night")
    hearing.votes("KZ", "abstain", at=T0 + 3 * MINUTE, sequence=6)
    hearing.votes("AZ", "approve", at=T0 + 3 * MINUTE, sequence=1)
    assert hearing.state is not None
    assert hearing.state.ballot is not None
    assert {name: vote.position for name, vote in hearing.state.ballot.votes.items()} == {
        "KZ": "abstain",
        "AZ": "approve",
    }


def test_which_votes_are_refused() -> None:
    hearing = Hearing(NETWORK)
    with pytest.raises(Refused, match=r"^unknown-ballot"):
        hearing.votes("KZ", at=T0)
    hearing.raised(T0)
    with pytest.raises(Refused, match=r"^unknown-ballot"):
        hearing.votes("KZ", at=T0 + MINUTE, ballot_id="sha256:" + "1" * 64)
    with pytest.raises(Refused, match=r"^unknown-ballot"):
        hearing.votes("KZ", at=T0 + MINUTE, round=2)
    with pytest.raises(Refused, match=r"^not-eligible"):
        hearing.votes("HU", at=T0 + MINUTE)


def test_a_vote_is_in_time_before_the_deadline_and_not_at_it() -> None:
    deadline = T0 + 6 * HOUR
    almost = deadline - timedelta(milliseconds=1)
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    for state in ("AZ", "KG", "KZ"):
        hearing.votes(state, at=almost)
    with pytest.raises(Refused, match=r"^too-late"):
        hearing.votes("UZ", at=deadline)
    assert isinstance(hearing.closing, BallotLapsed)
    assert hearing.closing.decided_at == deadline
    assert hearing.closing.absent == ["UZ"]
    assert hearing.closing.certificate["inbox"]["to"] == 102, "the record that brought the time is not in it"  # type: ignore[index, call-overload]
    with pytest.raises(Refused, match=r"^too-late"):
        hearing.votes("UZ", at=deadline + HOUR)
    assert_verified(hearing)


def test_the_domain_takes_no_late_vote_even_where_the_deadline_has_not_fallen() -> None:
    """It falls before the record that brings the time; should it not have, nothing late is counted all the
    same."""
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    vote = example(VoteCast, ballot_id=hearing.ballot_id)
    late = NETWORK.incoming(vote, at=T0 + 6 * HOUR)
    court = Court(PARTITION, late.recorded_at, 100, NETWORK.registry, "", hearing.chain)
    with pytest.raises(Refused, match=r"^too-late"):
        decide(hearing.state, late, court, DEFAULT)


def test_a_vote_in_time_counts_however_late_it_is_handled() -> None:
    """Time is the log's: what the broker took in time is in time, though the service was down for a day."""
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + 6 * HOUR - MINUTE)
    assert isinstance(hearing.closing, ConsensusReached)
    assert hearing.time_comes(T0 + 30 * HOUR) == []


def test_an_objection_blocks_at_the_deadline_too() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0, emergency=SEVERE)
    hearing.votes("KZ", "object", at=T0 + MINUTE)
    assert hearing.time_comes(T0 + 24 * HOUR - MINUTE) == []
    (blocked,) = hearing.time_comes(T0 + 24 * HOUR)
    assert isinstance(blocked, ConsensusBlocked)
    assert blocked.absent == ["AZ", "KG", "UZ"]
    assert blocked.decided_at == T0 + 24 * HOUR
    assert_verified(hearing)


# --- the end of a request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_the_end_of_a_request_withdraws_its_open_ballot(end: str) -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.votes("KZ", "object", at=T0 + MINUTE)
    (withdrawn,) = getattr(hearing, end)(T0 + 2 * MINUTE)
    assert isinstance(withdrawn, BallotWithdrawn)
    assert withdrawn.decided_at == T0 + 2 * MINUTE
    assert withdrawn.certificate["outcome"] == "withdrawn"
    assert_verified(hearing)
    reason = "request-closed" if end == "cancelled" else "too-late"
    with pytest.raises(Refused, match=rf"^{reason}"):
        hearing.votes("AZ", at=T0 + 3 * MINUTE)
    assert hearing.time_comes(T0 + 30 * HOUR) == []


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_the_end_of_a_decided_request_ends_its_mandate(end: str) -> None:
    hearing = Hearing(of(("TR",)))
    hearing.raised(T0)
    (ended,) = getattr(hearing, end)(T0 + HOUR)
    assert isinstance(ended, MandateEnded)
    assert ended.cause["type"] == f"qalqan.Request{end.capitalize()}.v1"
    assert set(ended.cause) >= {"data_base64", "dssematerial"}
    assert hearing.state is not None
    assert not hearing.state.decided
    assert hearing.rebuilt() == hearing.state


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_there_is_no_mandate_to_end_where_none_was_given(end: str) -> None:
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.votes("KZ", "object", at=T0 + MINUTE)
    hearing.time_comes(T0 + 6 * HOUR)
    assert getattr(hearing, end)(T0 + 7 * HOUR) == []


# --- properties --------------------------------------------------------------------------------------------

VOTERS = ("AZ", "KG", "KZ", "UZ")
ballots = st.dictionaries(
    st.tuples(st.sampled_from(VOTERS), st.integers(1, 4)),
    st.sampled_from(POSITIONS),
    max_size=10,
)


@settings(max_examples=60)
@given(ballots, st.booleans(), st.integers(0, 2**32), st.data())
def test_any_order_and_repetition_gives_the_same_outcome(
    votes: dict[tuple[str, int], Position], complete: bool, seed: int, data: st.DataObject
) -> None:
    """The highest sequences count, in whatever order and however often votes arrive while the ballot is open.

    One state comes last and once (it closes the ballot) or not at all (the deadline does).
    """
    votes = {name: position for name, position in votes.items() if name[0] != "UZ"}
    arriving = list(votes) + data.draw(st.lists(st.sampled_from(sorted(votes)), max_size=6) if votes else st.just([]))
    random.Random(seed).shuffle(arriving)
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    seen: dict[str, int] = {}
    for n, (state, sequence) in enumerate(arriving, 1):
        if sequence > seen.get(state, 0):
            hearing.votes(state, votes[state, sequence], at=T0 + n * MINUTE, sequence=sequence)
            seen[state] = sequence
        else:
            with pytest.raises(Refused, match=r"^stale"):
                hearing.votes(state, votes[state, sequence], at=T0 + n * MINUTE, sequence=sequence)
    if complete:
        hearing.votes("UZ", "abstain", at=T0 + HOUR)
    hearing.time_comes(T0 + 6 * HOUR)

    highest = {state: votes[state, sequence] for state, sequence in sorted(votes)}
    expected: dict[str, Position | None] = {
        "TR": "approve",
        **highest,
        **({"UZ": "abstain"} if complete else {}),
    }
    assert hearing.closing.tally == expected
    assert hearing.closing.certificate["outcome"] == model(MEMBERS, expected, at_deadline=True)
    assert_verified(hearing)


actions = st.lists(
    st.tuples(
        st.sampled_from([*["vote"] * 6, "cancelled", "closed", "wait"]),
        st.sampled_from((*MEMBERS, "HU")),
        st.sampled_from(POSITIONS),
        st.integers(1, 3),
    ),
    max_size=14,
)


@settings(max_examples=120)
@given(
    st.sampled_from([("TR",), ("AZ", "TR"), ("AZ", "KZ"), MEMBERS]),
    actions,
    st.lists(st.integers(1, 120), min_size=14, max_size=14),
)
def test_a_ballot_closes_exactly_once_whatever_happens(
    members: tuple[str, ...], steps: list[tuple[str, str, Position, int]], minutes: list[int]
) -> None:
    """Votes, corrections, ends and deadlines in any order: one closing, a valid certificate, a state that
    folds."""
    hearing = Hearing(of(members))
    hearing.raised(T0)
    now, ended = T0, False
    for (what, state, position, sequence), pause in zip(steps, minutes, strict=False):
        now += pause * MINUTE
        if what == "vote":
            if hearing.network.registry.member(state) is None:
                continue
            with contextlib.suppress(Refused):
                hearing.votes(state, position, at=now, sequence=sequence)
        elif what == "wait":
            hearing.time_comes(now)
        elif not ended:
            ended = True
            getattr(hearing, what)(now)
        assert hearing.rebuilt() == hearing.state
    hearing.time_comes(now + 48 * HOUR)
    assert len(hearing.closings) == 1
    ends = [fact for fact in hearing.facts if isinstance(fact.data, MandateEnded)]
    assert len(ends) == (ended and hearing.closing.certificate["outcome"] == "reached")
    assert_verified(hearing)


def test_certificates_of_a_partition_are_one_chain() -> None:
    """Serials without a gap, each naming the one before, over the ballots of different requests."""
    ids = [id for n in range(200) if topics.partition_of(id := f"TR-2023-{n:04}") == 3][:4]
    chain = Hearing(NETWORK).chain.of(3, {})
    certificates = []
    for request_id in ids:
        hearing = Hearing(NETWORK, request_id=request_id, chain=chain)
        hearing.raised(T0)
        hearing.time_comes(T0 + 6 * HOUR)
        assert_verified(hearing)
        certificates.append(hearing.closing.certificate)
        chain = hearing.chain.of(3, {"serial": hearing.chain.serial, "previous": hearing.chain.previous})
    assert [c["serial"] for c in certificates] == [1, 2, 3, 4]
    assert verify_chain(certificates) == []


def test_a_member_that_changes_while_the_ballot_is_open_changes_nothing_of_it() -> None:
    """The roll is frozen: the certificate brings the registrations as they stood when the ballot opened."""
    network = of(MEMBERS)
    hearing = Hearing(network)
    hearing.raised(T0)
    network.register_member("KZ", status="partner")
    network.register_member("TM")
    for state in VOTERS:
        hearing.votes(state, at=T0 + MINUTE)
    assert hearing.closing.tally == dict.fromkeys(MEMBERS, "approve")
    assert_verified(hearing)


def test_a_new_key_may_vote_and_its_registration_is_in_the_certificate() -> None:
    network = of(MEMBERS)
    hearing = Hearing(network)
    hearing.raised(T0)
    network.register_key(state_source(network.registry.network, "KZ"), Ed25519Key.generate())
    for state in VOTERS:
        hearing.votes(state, at=T0 + MINUTE)
    assert_verified(hearing)


# --- rules as data -----------------------------------------------------------------------------------------


def majority(roll: list[str], positions: Mapping[str, Position], at_deadline: bool) -> Result | None:
    """Another kind of rule: more than half approve. It settles as soon as that is certain."""
    approving = sum(positions.get(state) == "approve" for state in roll)
    undecided = sum(state not in positions for state in roll)
    if 2 * approving > len(roll):
        return "reached"
    if at_deadline or 2 * (approving + undecided) <= len(roll):
        return "lapsed"
    return None


MAJORITY = Rules(
    RuleRecord(rule_id="majority-1", kind="majority", window=timedelta(hours=2), window_at_risk=timedelta(hours=1)),
    {"majority": majority, **DEFAULT.kinds},
)


def test_another_rule_is_data_and_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam is real: another kind decides, the verifier is given its own version of it."""

    def verdict(roll: object, positions: Mapping[str, str]) -> Verdict:
        states = list(roll)  # type: ignore[call-overload]
        settled = majority(states, positions, False)  # type: ignore[arg-type]
        return Verdict(settled or "lapsed", settled is not None)

    monkeypatch.setitem(RULES, "majority", verdict)
    hearing = Hearing(NETWORK, rules=MAJORITY)
    (opened,) = hearing.raised(T0)
    assert isinstance(opened, BallotOpened)
    assert opened.ballot.rule.rule_id == "majority-1"
    assert opened.ballot.deadline == T0 + HOUR
    hearing.votes("KZ", "object", at=T0 + MINUTE)
    hearing.votes("AZ", "approve", at=T0 + 2 * MINUTE)
    _, reached = hearing.votes("UZ", "approve", at=T0 + 3 * MINUTE)
    assert isinstance(reached, ConsensusReached)
    assert reached.absent == ["KG"]
    assert_verified(hearing)

    lapsing = Hearing(NETWORK, rules=MAJORITY)
    lapsing.raised(T0)
    (lapsed,) = lapsing.time_comes(T0 + HOUR)
    assert isinstance(lapsed, BallotLapsed)
    assert_verified(lapsing)


def test_a_ballot_keeps_the_rule_it_was_opened_under() -> None:
    """Rules change for new ballots only."""
    hearing = Hearing(NETWORK)
    hearing.raised(T0)
    hearing.rules = MAJORITY
    for state in ("AZ", "KG", "KZ"):
        assert len(hearing.votes(state, at=T0 + MINUTE)) == 1
    (lapsed,) = hearing.time_comes(T0 + 6 * HOUR)
    assert isinstance(lapsed, BallotLapsed)
    assert_verified(hearing)


def test_the_verifier_calls_every_outcome_by_the_same_name() -> None:
    closing = {type_of(model.__name__): outcome for outcome, model in EVENT_OF.items()}
    assert closing.items() <= CLOSING.items()


# --- what is owed -------------------------------------------------------------------------------------------


def test_a_ballot_whose_end_was_lost_before_it_was_published_closes_as_it_had() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised()
    for n, state in enumerate(state for state in MEMBERS if state != "TR"):
        assert hearing.state is not None
        assert due_at(hearing.state) == hearing.state.open_ballot().record.deadline  # type: ignore[union-attr]
        hearing.votes(state, at=T0 + n * MINUTE)
    decided = hearing.state
    assert decided is not None
    assert decided.ballot is not None
    assert due_at(decided) is None
    opened = decided.ballot.model_copy(update={"outcome": None})
    lost = decided.model_copy(update={"ballot": opened, "decided": False})
    at = due_at(lost)
    assert at == hearing.closing.decided_at
    (closed,) = due(lost, replace(hearing._court(at, hearing.offset), chain=Chain(hearing.chain.name)), DEFAULT)
    assert closed.data == hearing.closing


def test_a_ballot_whose_opening_was_lost_before_it_was_published_opens() -> None:
    hearing = Hearing(NETWORK)
    hearing.raised()
    assert hearing.state is not None
    lost = hearing.state.model_copy(update={"ballot": None})
    assert due_at(lost) == T0
    (opened,) = due(lost, hearing._court(T0 + HOUR, hearing.offset), DEFAULT)
    assert isinstance(opened.data, BallotOpened)
    assert opened.data.ballot.opened_at == T0 + HOUR
