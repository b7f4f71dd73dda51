"""Who is told of what, when it is tried again, and when it is given up. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, field_validator

from qalqan.events import EVENTS, Mode, Severity
from qalqan.fields import RequestId, State
from services.notify.domain.entry import Entry

TURN = "turn"
"""The type of a message that is no public event: it is a state's turn. Only a filter that names it wants it."""

TURN_TYPE, TRIAL_TYPE = "qalqan.TurnTold.v1", "qalqan.trial.v1"
"""Of what is no public event and not signed: a reminder of what public events say, and a trial."""

TYPES = frozenset(kind.name for kind in EVENTS.values()) | {TURN}

_NAME = re.compile(r"qalqan\.([A-Za-z]+)\.v[0-9]+")
_SPACE = UUID("5d0a4f5e-8f0e-5c5b-9c0d-7c3d7a1f2b60")

_FIRST_PAUSE_S, _GROWTH, _LONGEST_PAUSE_S = 5.0, 3.0, 6 * 3600.0
ATTEMPTS = 12
"""5 s, 15 s, 45 s ... 3 h, then every 6 h: the last after some 23 hours, about as Standard Webhooks recommends."""


class Filter(BaseModel):
    """Which messages are wanted: each list that is not empty must have what the message has."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    states: Annotated[list[State], Field(max_length=50, description="affected by the request, or who says it")] = []
    requests: Annotated[list[RequestId], Field(max_length=200, description="ids of requests")] = []
    types: Annotated[
        list[str],
        Field(max_length=50, description="names of events (`VoteCast`), or `turn`; empty: every public event"),
    ] = []
    severities: Annotated[list[Severity], Field(max_length=5, description="of the request, as it stands then")] = []
    modes: Annotated[list[Mode], Field(max_length=3, description="`actual`, `exercise`, `test`")] = []
    turns_from_level: Annotated[int, Field(ge=0, le=9, description="0: from the first time that a turn is told")] = 0

    @field_validator("types")
    @classmethod
    def _exist(cls, types: list[str]) -> list[str]:
        for name in types:
            if name not in TYPES:
                raise ValueError(f"no event has the type {name[:60]!a}")
        return types


@dataclass(frozen=True, slots=True)
class Message:
    """What is told, as far as filters and letters need it."""

    key: str
    """Which event it is, also after a rebuild of the stream: source and id."""
    name: str
    event: Mapping[str, Any]
    """The structured CloudEvent."""
    body: str
    """The same as a webhook is sent it."""
    states: frozenset[str]
    """Whom it concerns: the state that says it, and the affected state of its request; of a turn, who is told."""
    request_id: str | None
    level: int = 0
    """Of a turn: how often it was told before."""

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Of an event of the stream, or of an announcement."""
        event = entry.event
        name = _NAME.fullmatch(event["type"])
        turn = event["data"] if event["type"] == TURN_TYPE else None
        return cls(
            key=f"{event['source']} {event['id']}",
            name=TURN if turn else name[1] if name else event["type"],
            event=event,
            body=entry.body,
            states=frozenset(turn["to"]) if turn else entry.states,
            request_id=event.get("subject") if "mode" in event else None,
            level=turn["level"] if turn else 0,
        )

    @property
    def mode(self) -> str | None:
        """`actual`, `exercise`, `test`; None: it is about no request."""
        return self.event.get("mode")


def trial(source: str, identity: str, at: str) -> str:
    """A message by which a subscription is tried, as a structured CloudEvent."""
    event = {
        "specversion": "1.0",
        "id": identity,
        "source": source,
        "type": TRIAL_TYPE,
        "time": at,
        "datacontenttype": "application/json",
        "data": {"text": "A trial of this subscription: nothing happened"},
    }
    return json.dumps(event)


def wants(wanted: Filter, message: Message, severity: str | None) -> bool:
    """Whether a filter lets a message through. `severity`: the request's, None where there is none or it is unknown."""
    if message.name == TURN and (TURN not in wanted.types or message.level < wanted.turns_from_level):
        return False
    return (
        (not wanted.types or message.name in wanted.types)
        and (not wanted.states or not message.states.isdisjoint(wanted.states))
        and (not wanted.requests or message.request_id in wanted.requests)
        and (not wanted.modes or message.mode in wanted.modes)
        and (not wanted.severities or severity in wanted.severities)
    )


def message_id(subscription_id: str, message: Message) -> str:
    """The `webhook-id`: the same at every attempt, after every restart and rebuild, so that a receiver can tell."""
    return f"msg_{uuid5(_SPACE, f'{subscription_id} {message.key}').hex}"


def pause_s(attempts: int, chance: float) -> float:
    """Seconds until the next attempt after so many that failed. `chance`: from 0 to 1, so that not all come at once."""
    return min(_FIRST_PAUSE_S * _GROWTH ** (attempts - 1), _LONGEST_PAUSE_S) * (0.8 + 0.4 * chance)


def digest_in_s(digest_minutes: int, now_s: float) -> float:
    """Seconds until what happens now is told: at the end of the digest's time (by the clock), or at once."""
    every_s = digest_minutes * 60
    return every_s - now_s % every_s if every_s else 0.0


def given_up(attempts: int) -> bool:
    """Whether a delivery that failed so often is dead."""
    return attempts >= ATTEMPTS


DeliveryState = Literal["waiting", "delivered", "dead"]
