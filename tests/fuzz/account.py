"""The account: each record that was sent became exactly one of a public event, a rejection, a silent repetition."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from qalqan import topics
from qalqan.envelope import BadEnvelope, Event, core_digest, from_kafka
from qalqan.events import Reason
from tests.fuzz.grammar import Shot
from tests.integration.stranger import Place
from tests.integration.test_rejections import original

REASONS: Final = get_args(Reason)
FORGETTABLE: Final = frozenset(REASONS[: REASONS.index("key-scope") + 1])
"""Refused for one of these, a record is not remembered (CONTRACT "Identity")."""

Sent = tuple[Shot, Place]


@dataclass(slots=True)
class Published:
    """What stands on the public topics since a fuzzing began."""

    rejections: defaultdict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """By the place of the submission: data of the rejections, by their ids."""
    events: defaultdict[bytes, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """By the core digest: topic and position. The core names source, id, type, subject: nothing else can have it."""

    @classmethod
    def of(cls, records: Iterable[Any]) -> "Published":
        """From records of public topics; a delivery that was repeated counts once."""
        found = cls()
        for record in records:
            event = from_kafka(record.key, record.headers, record.value)
            if record.topic == topics.REJECTIONS.name:
                assert event.subject is not None
                found.rejections[event.subject][event.id] = json.loads(event.data)
            else:
                position = event.extensions.get("position", f"offset {record.offset}")
                found.events[core_digest(event)].add((record.topic, position))
        return found


def settle(sent: Sequence[Sent], published: Published) -> Counter[str]:
    """How many came to what: `admitted`, `repetition`, or a reason. AssertionError: what cannot be accounted for."""
    counted: Counter[str] = Counter()
    remembered: dict[tuple[str, int, str, str], bytes] = {}
    admitted: set[bytes] = set()
    faults = []
    for shot, place in sorted(sent, key=lambda one: (one[1].topic, one[1].partition, one[1].offset)):
        try:
            what = _outcome(shot, place, published, remembered, admitted)
        except AssertionError as fault:
            faults.append(f"{place} ({', '.join(shot.how)}): {fault}\n  {str(shot.record)[:1500]}")
            continue
        counted[what] += 1
    assert not faults, f"{len(faults)} of {len(sent)} records:\n" + "\n".join(faults[:10])
    assert counted.total() == len(sent)
    return counted


def _outcome(
    shot: Shot,
    place: Place,
    published: Published,
    remembered: dict[tuple[str, int, str, str], bytes],
    admitted: set[bytes],
) -> str:
    event = _read(shot)
    identity = (place.topic, place.partition, event.source, event.id) if event else None
    known = remembered.get(identity) if identity else None
    core = core_digest(event) if event else b""
    rejections = list(published.rejections.get(str(place), {}).values())
    if rejections:
        (said,) = rejections
        reason = str(said["reason"])
        assert reason in REASONS, f"{reason} is no reason"
        assert said["detail"].strip(), "no detail"
        assert said["original_base64"] == (None if reason == "too-large" else original(shot.record)), "another original"
        if reason not in FORGETTABLE:
            assert identity is not None, f"{reason}, but it cannot be read"
            assert known != core, f"{reason}, but it is a repetition"
            assert (reason == "duplicate-id") == (known is not None), f"{reason}, but its id was known"
            remembered.setdefault(identity, core)
        return reason
    assert event is not None, "silence about what cannot be read"
    assert identity is not None
    if known == core:
        return "repetition"
    assert known is None, "silence about another event under a known id"
    stands = published.events.get(core, set())
    assert stands, "silence: neither public nor rejected"
    assert len(stands) == 1, f"stands at {sorted(stands)}"
    assert core not in admitted, "admitted twice"
    admitted.add(core)
    remembered[identity] = core
    return "admitted"


def _read(shot: Shot) -> Event | None:
    """The event of a record, if it is one. That it is read like this has tests of its own, with vectors."""
    record = shot.record
    if record.broken_name is not None:
        return None
    try:
        event = from_kafka(record.key, record.headers, record.value)
        return event if event.dssematerial is not None else None
    except BadEnvelope:
        return None
