"""Who is told of what, when it is tried again, and what letters say: pure rules."""

import html
import json
import re
from base64 import b64encode
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qalqan.events import EVENTS
from services.notify.delivery.mail import check_address
from services.notify.domain.entry import Entry
from services.notify.domain.letter import SAYS, About, clean, letter
from services.notify.domain.subscription import (
    ATTEMPTS,
    Filter,
    Message,
    digest_in_s,
    given_up,
    message_id,
    pause_s,
    wants,
)

TURN = {
    "specversion": "1.0",
    "id": "7f0c-1",
    "source": "qalqan://test/services/notify",
    "type": "qalqan.TurnTold.v1",
    "subject": "TR-2023-0001",
    "time": "2023-02-06T02:05:00Z",
    "mode": "exercise",
    "turn": "KZ",
    "data": {"state": "KZ", "kind": "vote", "level": 1, "deadline": "2023-02-06T08:00:00Z", "to": ["KZ"]},
}


def message(name: str = "VoteCast", by: str = "states/KZ", mode: str = "actual", **data: Any) -> Message:
    """A message about TR-2023-0001."""
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": f"qalqan://test/{by}",
        "type": f"qalqan.{name}.v1",
        "subject": "TR-2023-0001",
        "mode": mode,
        "time": "2023-02-06T02:00:00Z",
        "data_base64": b64encode(json.dumps(data).encode()).decode(),
    }
    return Message.of(Entry(7, json.dumps(event)))


@pytest.mark.parametrize(
    ("wanted", "severity", "is_wanted"),
    [
        ({}, None, True),
        ({"types": ["VoteCast", "turn"]}, None, True),
        ({"types": ["BallotOpened"]}, None, False),
        ({"states": ["KZ"]}, None, True),
        ({"states": ["AZ", "TR"]}, None, True),
        ({"states": ["AZ"]}, None, False),
        ({"requests": ["TR-2023-0001"]}, None, True),
        ({"requests": ["TR-2023-0002"]}, None, False),
        ({"modes": ["actual"]}, None, True),
        ({"modes": ["exercise", "test"]}, None, False),
        ({"severities": ["Extreme"]}, "Extreme", True),
        ({"severities": ["Severe", "Extreme"]}, "Minor", False),
        ({"severities": ["Extreme"]}, None, False),
        ({"states": ["KZ"], "modes": ["test"]}, None, False),
    ],
)
def test_a_filter_asks_for_all_that_it_names(wanted: dict[str, Any], severity: str | None, is_wanted: bool) -> None:
    assert wants(Filter(**wanted), message(), severity) is is_wanted


@pytest.mark.parametrize(
    "wanted", [{"types": ["Votecast"]}, {"states": ["kz"]}, {"severity": ["Extreme"]}, {"requests": ["1"]}]
)
def test_a_filter_that_would_never_match_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Filter(**wanted)


def test_a_turn_is_told_only_to_who_asks_for_turns_and_from_the_level_it_names() -> None:
    turn = Message.of(Entry(0, json.dumps(TURN)))
    assert (turn.name, turn.mode, turn.request_id, turn.level) == ("turn", "exercise", "TR-2023-0001", 1)
    assert not wants(Filter(), turn, None)
    assert wants(Filter(types=["turn"]), turn, None)
    assert wants(Filter(types=["turn"], states=["KZ"], turns_from_level=1), turn, None)
    assert not wants(Filter(types=["turn"], states=["TR"]), turn, None)
    assert not wants(Filter(types=["turn"], turns_from_level=2), turn, None)
    written = letter([(turn, About("Pazarcık", "Extreme"))], "exercise", "why")
    assert written.subject == (
        "[EXERCISE] Qalqan: Extreme: Pazarcık: it is your turn to vote (told again) (TR-2023-0001)"
    )
    assert "Deadline: 2023-02-06T08:00:00Z" in written.text


def test_an_id_is_of_a_subscription_and_an_event_alone() -> None:
    """However often and from wherever in the stream it is sent."""
    again = Message.of(Entry(99, message().body))
    assert message_id("sub_1", message()) == message_id("sub_1", again)
    assert message_id("sub_1", message()) != message_id("sub_2", message())


@given(st.floats(0, 1), st.floats(0, 1))
def test_pauses_grow_until_a_day_is_over(chance: float, other: float) -> None:
    pauses = [pause_s(attempts, chance) for attempts in range(1, ATTEMPTS)]
    assert all(late >= soon * 0.99 for soon, late in pairwise(pauses))
    assert 3.9 < pauses[0] < 6.1
    assert max(pauses) < 6 * 3600 * 1.21
    assert 17 * 3600 < sum(pauses) < 28 * 3600
    assert all(pause_s(attempts, other) >= pause_s(attempts, chance) * 0.66 for attempts in range(1, ATTEMPTS))
    assert given_up(ATTEMPTS)
    assert not given_up(ATTEMPTS - 1)


def test_a_digest_comes_at_the_end_of_its_time() -> None:
    assert digest_in_s(0, 1234.5) == 0
    assert digest_in_s(60, 3600 * 7 + 1) == 3599


def test_an_exercise_is_marked_at_both_ends_and_in_the_subject() -> None:
    about = About("Pazarcık", "Extreme")
    written = letter([(message("RequestRaised", mode="exercise"), about)], "exercise", "why")
    assert written.subject == "[EXERCISE] Qalqan: Extreme: Pazarcık: help is requested (TR-2023-0001)"
    assert written.text.count("EXERCISE - EXERCISE - EXERCISE") == 2
    assert written.text.startswith("EXERCISE")
    assert written.html.count("EXERCISE - EXERCISE - EXERCISE") == 2
    real = letter([(message("RequestRaised"), about)], "actual", "why")
    assert "EXERCISE" not in real.subject + real.text + real.html


def test_a_letter_has_words_for_every_event() -> None:
    assert {kind.name for kind in EVENTS.values()} <= SAYS.keys()


HOSTILE = (
    "<script>alert(1)</script>\r\nBcc: all@example.org\r\n\r\n\u202eexe.\u2028<img src=x onerror=y>" + "💥" * 50_000
)


def test_what_a_state_writes_stays_text() -> None:
    data = {"emergency": {"title": HOSTILE, "kind": HOSTILE, "place": {"name": HOSTILE}}, "text": HOSTILE}
    written = letter([(message("RequestRaised", reason=HOSTILE, **data), About(HOSTILE, "Extreme"))], "test", HOSTILE)
    assert "\r" not in written.subject
    assert "\n" not in written.subject
    assert written.subject.startswith("[TEST] Qalqan: ")
    assert len(written.subject) <= 150
    for line in written.text.split("\n"):
        assert len(line) < 500
        assert not re.search("[\x00-\x1f\u202a-\u202e\u2028]", line)
    assert not [line for line in written.text.split("\n") if line.startswith("Bcc")]
    assert "<script" not in written.html
    assert "<img" not in written.html
    assert html.escape("<script>") in written.html


@given(st.text())
def test_cleaned_text_is_one_short_line_that_can_be_sent(text: str) -> None:
    line = clean(text, 80)
    assert len(line) <= 80
    assert len(line.splitlines()) <= 1
    line.encode()


def test_many_messages_are_one_letter() -> None:
    written = letter([(message(), About("A", "Severe"))] * 3, None, "why")
    assert written.subject == "Qalqan: 3 events, 1 request"
    assert written.text.count("a vote was cast") == 3


@pytest.mark.parametrize("address", ["a@b", "duty.desk+night@afad.gov.tr", "x" * 64 + "@example.org"])
def test_an_address_is_taken(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a@b\r\nBcc: c@d", "a b@c", "a@b,c@d", "<a@b>", "a@b c", "a@-b", "é@b", "x" * 65 + "@b"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        check_address(address)
