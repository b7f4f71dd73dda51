"""Who is told of what, when it is tried again, and when it is given up. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, field_validator

from qalqan.events import EVENTS, Mode, Severity
from qalqan.fields import RequestId, State
from qalqan.sources import Source

TURN = "turn"
"""The type of a message that is no public event: it is a state's turn. Only a filter that names it wants it."""

TYPES = frozenset(kind.name for kind in EVENTS.values()) | {TURN}

_REQUEST = re.compile(r"([A-Z]{2,4})-[0-9]{4}-[A-Za-z0-9-]{1,40}")
_STATE = re.compile(r"[A-Z]{2,4}")
_NAME = re.compile(r"qalqan\.([A-Za-z]+)\.v[0-9]+")
_SPACE = UUID("5d0a4f5e-8f0e-5c5b-9c0d-7c3d7a1f2b60")

_FIRST_PAUSE_S, _GROWTH, _LONGEST_PAUSE_S = 5.0, 3.0, 6 * 3600.0
ATTEMPTS = 12
"""5 s, 15 s, 45 s ... 3 h, then every 6 h: the last one some 23 hours after the first (Standard Webhooks recommends
several days' schedule at most, and ~24 h as ordinary)."""
OLDEST = timedelta(hours=24)
"""What could not be delivered for so long is dead, however few attempts a resting target has had."""


class Filter(BaseModel):
    """Which messages are wanted: each list that is not empty must have what the message has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    states: Annotated[list[State], Field(max_length=50, description="affected by the request, or who says it")] = []
    requests: Annotated[list[RequestId], Field(max_length=200, description="ids of requests")] = []
    types: Annotated[
        list[str],
        Field(max_length=50, description="names of events (`VoteCast`), or `turn`; empty: every public event"),
    ] = []
    severities: Annotated[list[Severity], Field(max_length=5, description="of the request, as it stands then")] = []
    modes: Annotated[list[Mode], Field(max_length=3, description="`actual`, `exercise`, `test`")] = []

    @field_validator("types")
    @classmethod
    def _exist(cls, types: list[str]) -> list[str]:
        for name in types:
            if name not in TYPES:
                raise ValueError(f"no event has the type {name[:60]!a}")
        return types


@dataclass(frozen=True, slots=True)
class Message:
    """What is told, as far as filters and letters need it. `body`: the structured CloudEvent that a webhook is sent."""

    key: str
    """Which event it is, also after a rebuild of the stream: source and id."""
    name: str
    source: str
    subject: str
    mode: str | None
    states: frozenset[str]
    """Whom it concerns: the affected state, and the state that says it."""
    request_id: str | None
    body: str

    @classmethod
    def of(cls, body: str) -> Self:
        """From a structured CloudEvent, ours (so that nothing is missing in it)."""
        event: Mapping[str, Any] = json.loads(body)
        subject = str(event.get("subject") or "")
        states = set()
        request = _REQUEST.fullmatch(subject)
        if request is not None:
            states.add(request[1])
        elif _STATE.fullmatch(subject):
            states.add(subject)
        source = Source.parse(event["source"])
        if source is not None and source.kind == "state":
            states.add(source.name)
        if TURN in event:
            states = {event[TURN]}
        name = _NAME.fullmatch(event["type"])
        return cls(
            key=f"{event['source']} {event['id']}",
            name=TURN if TURN in event else (name[1] if name else event["type"]),
            source=event["source"],
            subject=subject,
            mode=event.get("mode"),
            states=frozenset(states),
            request_id=subject if request is not None else None,
            body=body,
        )


def wants(wanted: Filter, message: Message, severity: str | None) -> bool:
    """Whether a filter lets a message through. `severity`: the request's, None where there is none or it is unknown."""
    if message.name == TURN and TURN not in wanted.types:
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


def given_up(attempts: int) -> bool:
    """Whether a delivery that failed so often is dead."""
    return attempts >= ATTEMPTS


DeliveryState = Literal["waiting", "delivered", "dead"]
