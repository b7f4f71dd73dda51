"""Letters: what happened, for people, as plain text and as HTML. Pure.

All that a state can write is text here and stays text: characters that would end a line of the header, turn the
direction of what follows or hide something are taken out, what is long is cut, and in HTML everything is escaped.
"""

import html
import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.notify.domain.subscription import TURN, Message

PER_LETTER: Final = 100
"""How many messages one letter holds; the others are in the next."""
_TEXT_LIMIT, _SUBJECT_LIMIT = 300, 150

# Control characters, line and paragraph separators, marks and overrides of direction, invisible ones, lone surrogates.
_UNSEEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff]+"
)

SAYS: Final[Mapping[str, str]] = {
    "RequestAnticipated": "a request may follow",
    "RequestRaised": "help is requested",
    "RequestAmended": "the request was amended",
    "RequestCancelled": "the request was cancelled",
    "RequestClosed": "the request was closed",
    "PledgeOffered": "a pledge was offered",
    "PledgeRevised": "a pledge was revised",
    "PledgeWithdrawn": "a pledge was withdrawn",
    "PledgeAccepted": "a pledge was accepted",
    "PledgeDeclined": "a pledge was declined",
    "ResourceCommitted": "resources were committed",
    "ResourceDeparted": "resources departed",
    "ResourceArrived": "resources arrived",
    "ResourceReleased": "resources were released",
    "VoteCast": "a vote was cast",
    "BallotOpened": "a ballot was opened",
    "ConsensusReached": "consensus was reached",
    "ConsensusBlocked": "consensus was blocked",
    "BallotLapsed": "the ballot lapsed",
    "BallotSuperseded": "the ballot was superseded",
    "BallotWithdrawn": "the ballot was withdrawn",
    "MandateEnded": "the mandate ended: what has not departed is stood down",
    "MobilizationAuthorized": "the mobilisation was authorised",
    "MobilizationRevised": "the mobilisation was revised",
    "SubmissionRejected": "a submission was rejected",
    "MemberRegistered": "a member was registered",
    "KeyRegistered": "a key was registered",
    "KeyRevoked": "a key was revoked",
    "trial": "a trial of your subscription",
}
TURNS: Final[Mapping[str, str]] = {
    "vote": "it is your turn to vote",
    "accept": "it is your turn to answer a pledge",
    "depart": "a departure of yours is late",
    "arrive": "an arrival of yours is late",
}
_BANNERS: Final[Mapping[str, str]] = {
    "exercise": "EXERCISE - EXERCISE - EXERCISE: nothing of this is real",
    "test": "TEST - TEST - TEST: nothing of this is real",
}
_FIELDS: Final = (
    ("state", "State"),
    ("pledging_state", "From"),
    ("position", "Position"),
    ("reason", "Reason"),
    ("detail", "Detail"),
    ("declaration", "Declaration"),
    ("reservation", "Reservation"),
    ("pledge_id", "Pledge"),
    ("capability", "Capability"),
    ("quantity", "Quantity"),
    ("unit", "Unit"),
    ("conditions", "Conditions"),
    ("what", "Of"),
    ("deadline", "Deadline"),
    ("arrives_at", "Arrives"),
    ("at", "At"),
    ("mobilization_id", "Mobilisation"),
    ("revision", "Revision"),
    ("source_topic", "Topic"),
    ("text", "Text"),
)


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a message's request."""

    title: str | None = None
    severity: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter to be sent; `subject` is one line."""

    subject: str
    text: str
    html: str


def letter(messages: Sequence[tuple[Message, About]], mode: str | None, footer: str) -> Letter:
    """One letter of messages of one mode, at least one."""
    banner = _BANNERS.get(mode or "actual")
    first, about = messages[0]
    if len(messages) == 1:
        subject = _headline(first, about)
    else:
        requests = {message.request_id for message, _ in messages if message.request_id}
        what = f", {len(requests)} request{'s' if len(requests) > 1 else ''}" if requests else ""
        subject = f"{len(messages)} events{what}"
    marked = f"[{mode.upper()}] " if mode and banner else ""
    parts = [(_headline(message, each), _facts(message)) for message, each in messages]
    return Letter(
        subject=clean(f"{marked}Qalqan: {subject}", _SUBJECT_LIMIT),
        text=_as_text(banner, parts, footer),
        html=_as_html(banner, parts, footer),
    )


def clean(text: object, limit: int = _TEXT_LIMIT) -> str:
    """Text on one line, without what cannot be seen, cut where it is too long."""
    line = _UNSEEN.sub(" ", str(text)).strip()
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _headline(message: Message, about: About) -> str:
    data = _data(message)
    says = TURNS.get(str(data.get("kind"))) if message.name == TURN else SAYS.get(message.name)
    parts = [about.severity if about.severity != "Unknown" else None, about.title, says or message.name]
    told = ": ".join(clean(part, 90) for part in parts if part)
    again = " (told again)" if message.level > 0 else ""
    return f"{told}{again}" + (f" ({message.request_id})" if message.request_id else "")


def _facts(message: Message) -> list[tuple[str, str]]:
    data = _data(message)
    by = message.event["source"].partition("://")[2].partition("/")[2]
    facts = [("Event", message.name), ("By", by), ("Time", message.event.get("time") or "")]
    emergency = data.get("emergency")
    if isinstance(emergency, dict):
        place = emergency.get("place") or {}
        facts += [("Title", emergency.get("title")), ("Kind", emergency.get("kind")), ("Place", place.get("name"))]
    facts += [
        (f"Need {need.get('need_id')}", f"{need.get('quantity')} {need.get('unit')} {need.get('capability')}")
        for need in (data.get("needs") or [])[:20]
    ]
    facts += [(label, data[name]) for name, label in _FIELDS if isinstance(data.get(name), str | int)]
    return [(clean(label, 50), clean(value)) for label, value in facts if value not in (None, "")]


def _data(message: Message) -> Mapping[str, Any]:
    if "data" in message.event:
        found = message.event["data"]
    else:
        try:
            found = json.loads(b64decode(message.event.get("data_base64") or ""))
        except ValueError:
            found = None
    return found if isinstance(found, dict) else {}


def _as_text(banner: str | None, parts: Iterable[tuple[str, list[tuple[str, str]]]], footer: str) -> str:
    lines = [banner, ""] if banner else []
    for headline, facts in parts:
        lines += [headline, *(f"    {label}: {value}" for label, value in facts), ""]
    if banner:
        lines += [banner, ""]
    return "\n".join([*lines, "-- ", clean(footer), ""])


def _as_html(banner: str | None, parts: Iterable[tuple[str, list[tuple[str, str]]]], footer: str) -> str:
    marked = (
        f'<p style="background:#fd0;color:#000;padding:.5em"><strong>{_safe(banner)}</strong></p>' if banner else ""
    )
    told = "".join(
        f"<h2 style='font-size:1.1em'><bdi>{_safe(headline)}</bdi></h2><table>"
        + "".join(
            f"<tr><th style='text-align:left'>{_safe(label)}</th><td><bdi>{_safe(value)}</bdi></td></tr>"
            for label, value in facts
        )
        + "</table>"
        for headline, facts in parts
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><body>{marked}{told}{marked}'
        f"<hr><p><small>{_safe(clean(footer))}</small></p></body></html>"
    )


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
