"""What readers see of a request: folded from public events, whatever order their topics are read in."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qalqan.events import (
    BallotLapsed,
    BallotOpened,
    ConsensusBlocked,
    ConsensusReached,
    MobilizationAuthorized,
    MobilizationRevised,
    PledgeAccepted,
    PledgeDeclined,
    PledgeOffered,
    PledgeRevised,
    PledgeWithdrawn,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    ResourceArrived,
    ResourceDeparted,
    VoteCast,
)
from qalqan.fields import Model
from services.notify.domain.fold import Told
from services.notify.domain.projection import PATIENCE, Projection
from services.notify.domain.view import Card, View
from tests.unit.builders import HOUR, REQUEST_ID, T0, digest, example, kind_of, need

LINE = {
    "line_id": "AZ-1.1",
    "need_id": "N1",
    "pledge_id": "AZ-1",
    "state": "AZ",
    "capability": "HUSAR",
    "quantity": 4,
    "unit": "team",
    "depart_by": "2023-02-06T06:00:00Z",
    "arrives_at": "2023-02-06T12:00:00Z",
    "estimated": False,
    "reason": "first",
}
COVERAGE = {"need_id": "N1", "requested": 10, "covered": 4, "on_time": 4, "bilateral": 0}
TALLY = dict.fromkeys(("AZ", "KG", "KZ", "TR", "UZ"), "approve")
VOTES = [example(VoteCast, state=state) for state in ("AZ", "KG", "KZ", "UZ")]
STORY = [
    example(RequestAnticipated),
    example(PledgeOffered),
    example(RequestRaised),
    example(BallotOpened),
    *VOTES[:2],
    example(PledgeAccepted),
    example(PledgeOffered, pledge_id="KG-1", pledging_state="KG", quantity=2),
    *VOTES[2:],
    example(ConsensusReached, tally=TALLY),
    example(MobilizationAuthorized, lines=[LINE], coverage=[COVERAGE]),
    example(ResourceDeparted, quantity=4),
    example(PledgeDeclined, pledge_id="KG-1"),
    example(RequestAmended, needs=[need(), need("N2", quantity=3)]),
    example(MobilizationRevised, lines=[LINE], coverage=[{**COVERAGE, "on_time": 3}]),
    example(ResourceArrived, quantity=3),
]


def told(story: Sequence[Model]) -> list[Told]:
    """Events as the stream has them: numbered, each at its position of its topic, a minute apart."""
    positions: dict[str, int] = {}
    result = []
    for seq, data in enumerate(story, 1):
        topic = kind_of(data).topic
        assert topic is not None
        positions[topic.name] = positions.get(topic.name, 0) + 1
        result.append(Told(seq, topic.name, positions[topic.name], T0 + timedelta(minutes=seq), data))
    return result


def seen(events: Sequence[Told]) -> View:
    """The view that they lead to."""
    projection = Projection()
    for event in events:
        projection.take(REQUEST_ID, event)
    return projection.views[REQUEST_ID]


def lasting(view: View) -> dict[str, Any]:
    """What does not depend on when it was read."""
    return view.model_dump(exclude={"seq", "changed_at", "raised_at", "coverage_over_time"})


def waits(view: View) -> list[tuple[str, str, str]]:
    return [(wait.kind, wait.state, wait.what) for wait in view.waits]


def test_a_request_from_its_anticipation_to_the_teams_on_their_way() -> None:
    view = seen(told(STORY))
    assert (view.status, view.revision, view.state, view.mode) == ("open", 2, "TR", "actual")
    assert view.raised_at == T0 + timedelta(minutes=1)
    (ballot,) = view.ballots
    assert (ballot.outcome, ballot.waits_for()) == ("reached", [])
    assert {state: p.position for state, p in ballot.positions.items()} == TALLY
    first, second = view.pledges
    assert (first.status, first.accepted, first.departed, first.arrived) == ("accepted", 4, 4, 3)
    assert second.status == "declined"
    assert [(n.need_id, n.covered, n.on_time) for n in view.needs] == [("N1", 4, 3), ("N2", 0, 0)]
    assert waits(view) == [("arrive", "AZ", "AZ-1.1")]
    both = {"N1": 4, "N2": 0}
    assert [point.covered for point in view.coverage_over_time] == [{}, {"N1": 0}, {"N1": 4}, both, both]
    card = Card.of(view)
    assert card.coverage.model_dump() == {"requested": 13, "covered": 4, "on_time": 3, "percent": 20}
    assert card.ballot is not None
    assert (card.ballot.in_, card.ballot.of) == (5, 5)
    assert (card.pledges.offered, card.pledges.accepted) == (1, 1)
    assert Card.model_validate_json(card.model_dump_json(by_alias=True)) == card
    assert View.model_validate_json(view.model_dump_json(by_alias=True)) == view


@given(st.data())
def test_topics_may_overtake_each_other(data: st.DataObject) -> None:
    """Each topic in its own order, all interleaved as chance has it: what is seen in the end is the same."""
    queues: dict[str, list[Told]] = {}
    for event in told(STORY):
        queues.setdefault(event.topic, []).append(event)
    numbers = count(1)
    read = []
    while queues:
        topic = data.draw(st.sampled_from(sorted(queues)))
        event = queues[topic].pop(0)
        read.append(Told(next(numbers), event.topic, event.position, event.at, event.data))
        if not queues[topic]:
            del queues[topic]
    assert lasting(seen(read)) == lasting(seen(told(STORY)))


@given(st.data())
def test_a_repeated_delivery_changes_nothing(data: st.DataObject) -> None:
    events = told(STORY)
    read = []
    for number, event in enumerate(events):
        read.append(event)
        read.extend(data.draw(st.lists(st.sampled_from(events[: number + 1]), max_size=2)))
    assert seen(read) == seen(events)


def test_what_waits_for_another_topic_is_read_again_after_a_crash() -> None:
    """The views hold everything up to what waits: a start reads on from there."""
    projection = Projection()
    raised, opened, vote = told([example(RequestRaised), example(BallotOpened), example(VoteCast)])
    assert projection.take(REQUEST_ID, opened) is None
    assert projection.upto(opened.seq) == opened.seq - 1
    assert projection.take(REQUEST_ID, vote) is None
    assert projection.take(REQUEST_ID, raised) is not None
    assert projection.upto(vote.seq) == vote.seq
    assert list(projection.views[REQUEST_ID].ballots[0].positions) == ["TR", "KZ"]


def test_what_never_comes_is_waited_for_only_so_long() -> None:
    projection = Projection()
    (vote,) = told([example(VoteCast)])
    projection.take(REQUEST_ID, vote)
    assert projection.give_up(vote.seq + PATIENCE) == []
    assert projection.give_up(vote.seq + PATIENCE + 1) == [vote]
    assert projection.upto(PATIENCE) == PATIENCE


def test_of_a_ballot_each_missing_position_is_waited_for_until_the_deadline() -> None:
    view = seen(told([example(RequestRaised), example(BallotOpened), VOTES[0]]))
    assert waits(view) == [("vote", state, digest("ballot")) for state in ("KG", "KZ", "UZ")]
    assert {wait.deadline for wait in view.waits} == {T0 + 6 * HOUR}
    card = Card.of(view)
    assert card.ballot is not None
    assert (card.ballot.in_, card.ballot.of) == (2, 5)


@pytest.mark.parametrize("model", [BallotLapsed, ConsensusBlocked])
def test_a_ballot_that_is_over_waits_for_nobody(model: type[Model]) -> None:
    view = seen(told([example(RequestRaised), example(BallotOpened), example(model)]))
    assert waits(view) == []
    assert view.ballots[0].outcome in ("lapsed", "blocked")


def test_the_vote_with_the_highest_sequence_stands() -> None:
    votes = [
        example(VoteCast, sequence=2, position="object", reason="Not this route"),
        example(VoteCast, sequence=1, position="abstain"),
    ]
    view = seen(told([example(RequestRaised), example(BallotOpened), *votes]))
    assert view.ballots[0].positions["KZ"].position == "object"
    assert view.ballots[0].positions["KZ"].reason == "Not this route"


@pytest.mark.parametrize(
    ("acceptance", "answers", "waited_for"), [("manual", ["N1"], 1), ("automatic", ["N1"], 0), ("automatic", [], 1)]
)
def test_an_offer_waits_for_the_affected_state_unless_it_is_accepted_by_policy(
    acceptance: str, answers: list[str], waited_for: int
) -> None:
    view = seen(told([example(RequestRaised, acceptance=acceptance), example(PledgeOffered, answers=answers)]))
    assert waits(view) == [("accept", "TR", "AZ-1/1")] * waited_for


def test_a_revised_offer_waits_anew_and_a_withdrawn_one_no_more() -> None:
    story = [example(RequestRaised), example(PledgeOffered), example(PledgeAccepted)]
    assert waits(seen(told(story))) == []
    story.append(example(PledgeRevised))
    assert waits(seen(told(story))) == [("accept", "TR", "AZ-1/2")]
    story.append(example(PledgeWithdrawn))
    assert waits(seen(told(story))) == []


def test_a_pledge_that_leaves_in_parts_is_waited_for_until_all_of_it_has_left_and_arrived() -> None:
    lines = [LINE, {**LINE, "line_id": "AZ-1.2", "need_id": "N2", "quantity": 1}]
    story: list[Model] = [
        example(RequestRaised),
        example(PledgeOffered, quantity=5),
        example(PledgeAccepted, quantity=5),
        example(MobilizationAuthorized, lines=lines),
    ]
    assert waits(seen(told(story))) == [("depart", "AZ", "AZ-1.1"), ("depart", "AZ", "AZ-1.2")]
    story.append(example(ResourceDeparted, quantity=4))
    assert waits(seen(told(story))) == [("depart", "AZ", "AZ-1.2"), ("arrive", "AZ", "AZ-1.1")]
    story.append(example(ResourceDeparted, quantity=1))
    story.append(example(ResourceArrived, quantity=5))
    assert waits(seen(told(story))) == []


@pytest.mark.parametrize("model", [RequestCancelled, RequestClosed])
def test_what_has_ended_says_why_and_is_forgotten_when_it_is_kept(model: type[Model]) -> None:
    projection = Projection()
    for event in told([example(RequestRaised), example(model)]):
        projection.take(REQUEST_ID, event)
    view = projection.views[REQUEST_ID]
    assert (view.is_open, view.reason) == (False, "Enough has come")
    projection.forget(10, busy={REQUEST_ID})
    assert REQUEST_ID in projection.views
    projection.forget(10, busy=set())
    assert REQUEST_ID not in projection.views


def test_a_card_says_what_is_due_first_and_how_much_there_is() -> None:
    roll = [f"A{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    opened = example(BallotOpened)
    many = opened.model_copy(update={"ballot": opened.ballot.model_copy(update={"roll": roll})})
    view = seen(told([example(RequestRaised), many]))
    card = Card.of(view)
    assert (card.waiting, card.waits) == (26, view.waits[:20])


def test_a_long_curve_stays_short() -> None:
    story: list[Model] = [example(RequestRaised)]
    for revision in range(1, 1_500):
        covered = {**COVERAGE, "covered": revision % 10}
        story.append(example(MobilizationRevised, revision=revision, coverage=[covered]))
    points = seen(told(story)).coverage_over_time
    assert len(points) <= 400
    assert points[0].at == T0 + timedelta(minutes=1)
    assert [point.at for point in points] == sorted(point.at for point in points)
