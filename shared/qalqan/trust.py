"""Whether an event on a public topic is to be believed, by root.json and `members` alone.

A reader who checks this needs to trust neither the broker nor the services' word for who signed what.
"""

from datetime import datetime
from typing import Final

from qalqan.envelope import BadEnvelope, Event
from qalqan.events import EVENTS, EventType
from qalqan.instants import parse_instant
from qalqan.registry import RegisteredKey, Registry
from qalqan.signing import BadSignature, read_material, verify
from qalqan.sources import Source
from qalqan.topics import DECISIONS, MOBILIZATIONS, PLEDGES, REQUESTS, VOTES

WRITERS: Final = {
    REQUESTS.name: "request",
    VOTES.name: "consensus",
    DECISIONS.name: "consensus",
    PLEDGES.name: "pledge",
    MOBILIZATIONS.name: "pledge",
}
"""The one service that states something on a topic of a request (DESIGN, table of services)."""

UNKNOWN_KEY: Final = "signed with a key that is not registered"


def doubt(event: Event, topic: str, appended_at: datetime, registry: Registry) -> str | None:
    """Why this event of a public topic is not to be believed; None: it is.

    Not for `members`, whose events `Registry.apply` checks. `appended_at` is the record's log time. A state's
    key must have been valid when its submission was taken (`recordedtime`), a service's when its statement
    was appended.
    """
    try:
        material = read_material(event)
    except BadEnvelope as error:
        return str(error)
    key = registry.key(material.key_id)
    if key is None:
        return UNKNOWN_KEY
    if key.source != event.source:
        return f"signed with a key of {key.source}"
    try:
        verify(event, material, key.public_key)
    except BadSignature as error:
        return str(error)
    kind = EVENTS.get(event.type)
    if kind is None:
        return None  # a later version's: who signed it is certain, what it may say this version cannot judge
    if kind.topic is None or kind.topic.name != topic:
        return f"{kind.name} does not belong on {topic}"
    return _doubt_signer(event, topic, kind, key, appended_at)


def _doubt_signer(event: Event, topic: str, kind: EventType, key: RegisteredKey, appended_at: datetime) -> str | None:
    source = Source.parse(event.source)
    if source is None:
        return f"{event.source!r} is no source"
    if source.kind == "service":
        # The pledge service may state an acceptance that the request asked for (`"by":"policy"`).
        if kind.signer != "service" and kind.name != "PledgeAccepted":
            return f"{kind.name} is not a service's to state"
        if source.name != WRITERS.get(topic, source.name):
            return f"{topic} is not written by the service {source.name}"
        if _revoked(event, key):
            return "the service's key had been revoked"
        return None if key.valid_at(appended_at) else "the service's key was not valid then"
    if source.kind != kind.signer:
        return f"{kind.name} is not a {source.kind}'s to state"
    if kind.scope is not None and kind.scope not in key.scopes:
        return f"the key has not the scope {kind.scope}"
    recorded = event.extensions.get("recordedtime")
    try:
        taken_at = parse_instant(recorded) if recorded is not None else appended_at
    except ValueError as error:
        return f"recordedtime: {error}"
    if _revoked(event, key):
        return "the key had been revoked when the event was taken"
    return None if key.valid_at(taken_at) else "the key was not valid when the event was taken"


def _revoked(event: Event, key: RegisteredKey) -> bool:
    """Whether its writer knew of the key's revocation (`membersoffset`); one that came later does not show."""
    judged_by = event.extensions.get("membersoffset", "")
    return key.revoked_before(int(judged_by)) if judged_by.isdecimal() else key.revoked_at is not None
