"""It is your turn: who is told of what, and when again."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from qalqan.events import BallotOpened, MobilizationAuthorized, PledgeAccepted, PledgeOffered, RequestRaised, Severity
from services.notify.domain.turns import AGAIN, told_again, turns
from tests.unit.builders import T0, example
from tests.unit.test_projection import LINE, seen, told

SEVERITIES: tuple[Severity, ...] = ("Extreme", "Severe", "Moderate", "Minor", "Unknown")


def test_a_ballot_is_told_at_once_and_a_line_when_it_is_late() -> None:
    story = [
        example(RequestRaised),
        example(BallotOpened),
        example(PledgeOffered),
        example(PledgeAccepted),
        example(MobilizationAuthorized, lines=[LINE]),
    ]
    found = {turn.kind: turn for turn in turns(seen(told(story)))}
    assert found["vote"].next_at == found["vote"].since
    assert found["depart"].next_at == found["depart"].deadline


def test_the_same_debt_is_the_same_turn_however_often_it_is_looked_at() -> None:
    first, again = (turns(seen(told([example(RequestRaised), example(BallotOpened)]))) for _ in range(2))
    assert first == again
    assert len({turn.turn_id for turn in first}) == len(first) == 4


@given(st.sampled_from(SEVERITIES), st.none() | st.integers(-60, 10_000))
def test_the_words_come_in_order_before_the_deadline_and_end(severity: Severity, minutes: int | None) -> None:
    deadline = None if minutes is None else T0 + timedelta(minutes=minutes)
    instants = [T0]
    for level in range(10):
        at = told_again(level, T0, severity, deadline)
        if at is None:
            break
        instants.append(at)
    assert len(instants) == 4
    assert instants == sorted(set(instants))
    if deadline is not None and deadline > T0:
        assert instants[-1] < deadline


def test_the_more_severe_the_sooner_again() -> None:
    extreme, severe, other = (told_again(0, T0, severity, None) for severity in ("Extreme", "Severe", "Minor"))
    assert extreme == T0 + AGAIN["Extreme"][0]
    assert T0 < extreme < severe < other
