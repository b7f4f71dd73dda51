"""`qalqan watch`: what is shown of an event, to whom it is of interest, and that no text of it commands a terminal."""

import json
import re
import unicodedata
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from qalqan.cli import app
from qalqan.client import Message
from qalqan.envelope import Event, from_structured
from qalqan.events import EVENTS, EventType, MemberRegistered, SubmissionRejected, VoteCast, dump
from qalqan.fields import Model
from qalqan.instants import to_millis
from qalqan.watch.online import message_of
from qalqan.watch.show import Rows, show_on
from qalqan.watch.sighting import Sighting, Wanted
from qalqan.words import harmless
from tests.unit import builders
from tests.unit.builders import T0, example

OURS = re.compile(r"\x1b\[[0-9;]*m")
"""What rich writes itself: colours, and nothing that moves, erases or asks."""
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m [red]no[/red] :boom: \u202eevil\u202c\r\nZ\u2028\u2029\u200b\x00\x7f end"
each_kind = pytest.mark.parametrize("kind", EVENTS.values(), ids=[kind.name for kind in EVENTS.values()])


def sighting(data: Model, doubt: str | None = None, topic: str | None = None, **extensions: str) -> Sighting:
    """An event as it stands on its public topic."""
    made = builders.event(data)
    event = Event(**{name: getattr(made, name) for name in made.__slots__} | {"extensions": extensions})
    kind = EVENTS[event.type]
    assert kind.topic is not None
    return Sighting(Message(topic or kind.topic.name, 0, 7, to_millis(T0), event, dump(data)), doubt)


def in_a_terminal(*shown: Sighting, width: int = 140) -> str:
    out = StringIO()
    show = Rows(Console(file=out, force_terminal=True, width=width, markup=False, highlight=False, emoji=False))
    for each in shown:
        show(each)
    return out.getvalue()


def in_a_pipe(shown: Sighting, *, as_json: bool = False) -> str:
    out = StringIO()
    show_on(out, as_json=as_json)(shown)
    return out.getvalue()


@each_kind
def test_every_event_has_a_row_and_a_line(kind: EventType) -> None:
    seen = sighting(example(kind.model), mode="exercise", position="0000000001")
    assert kind.name in in_a_terminal(seen)
    line = in_a_pipe(seen)
    assert line.count("\n") == 1
    assert kind.name in line
    assert "\x1b" not in line


def test_what_matters_of_a_vote_stands_in_the_row() -> None:
    row = OURS.sub("", in_a_terminal(sighting(example(VoteCast, position="object", reason="No route"), mode="test")))
    assert row.splitlines()[0].split() == ["time", "mode", "request", "event", "who", "signature", "what"]
    assert row.splitlines()[1].split() == (
        ["06", "Feb", "03:00:00", "TEST", "TR-2023-0001", "VoteCast", "KZ", "valid", "votes", "object:", "No", "route"]
    )


def test_a_mode_that_is_not_actual_is_marked_and_the_signed_one_counts() -> None:
    exercise = sighting(example(VoteCast), mode="exercise")
    assert re.search(r"\x1b\[[0-9;]*43m *EXERCISE", in_a_terminal(exercise))
    assert "  EXERCISE  " in in_a_pipe(exercise)
    assert "actual" in in_a_pipe(sighting(example(VoteCast), mode="actual"))
    # The extension is unsigned: where the data have the mode, theirs is shown.
    raised = sighting(example(EVENTS["qalqan.RequestRaised.v1"].model, mode="exercise"), mode="actual")
    assert "  EXERCISE  " in in_a_pipe(raised)
    assert "  -  " in in_a_pipe(sighting(example(MemberRegistered)))


def test_what_is_not_to_be_believed_says_so() -> None:
    forged = sighting(example(VoteCast), doubt="the signature is wrong", mode="actual")
    assert "NOT VALID" in in_a_terminal(forged)
    assert "NOT VALID  (the signature is wrong) votes approve" in in_a_pipe(forged)
    assert json.loads(in_a_pipe(forged, as_json=True))["signature"] == "not valid: the signature is wrong"


@pytest.mark.parametrize("width", [60, 140])
def test_hostile_text_commands_no_terminal(width: int) -> None:
    """Neither in the data nor in the attributes nor in what is said about them; and it is no markup of rich."""
    seen = sighting(example(VoteCast, position="object", reason=HOSTILE), doubt=HOSTILE, mode=HOSTILE)
    rejected = sighting(example(SubmissionRejected, detail=HOSTILE))
    shown = OURS.sub("", in_a_terminal(seen, rejected, width=width))
    for text in (shown, in_a_pipe(seen), in_a_pipe(rejected), in_a_pipe(seen, as_json=True)):
        rest = text.replace("\n", "")
        assert not [each for each in rest if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp")], text
    assert "[red]no[/red] :boom:" in in_a_pipe(seen)
    assert in_a_pipe(seen).count("\n") == 1
    assert len(in_a_pipe(sighting(example(VoteCast, position="object", reason="x" * 20_000)))) < 600


def test_data_of_another_form_is_shown_by_name() -> None:
    seen = sighting(example(VoteCast))
    odd: list[Any] = [{}, {"position": 7, "reason": 3}, {"reason": None}]
    for data in odd:
        message = Message("votes", 0, 0, 0, seen.message.event, data)
        assert "ote" in in_a_pipe(Sighting(message, None))


def test_harmless() -> None:
    assert harmless("  Ağır\thasar \n ") == "Ağır hasar"
    assert harmless("a\x1b[31mb") == "a\N{REPLACEMENT CHARACTER}[31mb"
    assert len(harmless("x" * 1000, 50)) == 50


def test_a_json_line_is_the_event_itself() -> None:
    seen = sighting(example(VoteCast), mode="actual", position="0000000001")
    found = json.loads(in_a_pipe(seen, as_json=True))
    assert (found["topic"], found["partition"], found["offset"], found["signature"]) == ("votes", 0, 7, "valid")
    again = from_structured({name: value for name, value in found.items() if type(value) is str})
    assert again.data == seen.message.event.data
    message = message_of(json.dumps(found))
    assert message is not None
    assert (message.topic, message.offset, message.timestamp_ms) == ("votes", 7, seen.message.timestamp_ms)
    assert message.data == seen.message.data
    assert message_of("{}") is message_of("no") is message_of('{"topic":1,"partition":"x","offset":[]}') is None


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(requests=["TR-2023-0002", "TR-2023-0001"]), True),
        (Wanted(requests=["TR-2023-0002"]), False),
        (Wanted(states=["KZ"]), True),
        (Wanted(states=["TR"]), True),
        (Wanted(states=["AZ"]), False),
        (Wanted(types=["VoteCast"]), True),
        (Wanted(types=["BallotOpened"]), False),
        (Wanted(modes=["actual"]), True),
        (Wanted(modes=["exercise", "test"]), False),
        (Wanted(requests=["TR-2023-0001"], states=["KZ"], types=["VoteCast"], modes=["test"]), False),
    ],
)
def test_filters(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(sighting(example(VoteCast), mode="actual")) is takes


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--type", "VotCast"], "VotCast: there is no such event"),
        (["--mode", "real"], "real: there are actual, exercise, test"),
        (["--url", "notify"], "not an address"),
        ([], "run.json is not there"),
        (["--kafka"], "run.json is not there"),
    ],
)
def test_what_cannot_be_watched(
    arguments: list[str], what: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.network import Network

    monkeypatch.setenv("QALQAN_HOME", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    missing = CliRunner().invoke(app, ["watch"])
    assert missing.exit_code == 2
    assert "root.json" in missing.stderr
    (tmp_path / "root.json").write_text(Network().root.model_dump_json())
    done = CliRunner().invoke(app, ["watch", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert what in done.stderr
