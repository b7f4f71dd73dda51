"""What became of a submission, from PostgreSQL: the same answer from any replica, and after a restart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from chassis.database import Pool
from chassis.ledger import load_headers
from qalqan.envelope import BadEnvelope, Event, core_digest, from_kafka
from qalqan.events import EVENTS, Reason
from qalqan.topics import REJECTIONS

_STANDING = """
select coalesce((l.next_offsets ->> $1)::bigint, 0) > $3 or $3 = any (l.handled) as handled,
       exists (select from parked p where p.partition = $2 and p."offset" = $3) as waits,
       (select o.value from outbox o where o.topic = $4 and o.key = $5 and o.position is null limit 1) as rejection
from lane l where l.partition = $2
"""
_IDENTITY = 'select core, "offset", outcome from inbox where partition = $1 and source = $2 and id = $3'
_PUBLIC = (
    """select topic, to_partition, key, position, headers from outbox where topic = $1 and key = $2 order by position"""
)
_PRUNED = "what was wrong with it stands on the topic of rejections; here it is kept for seven days"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker has a submission."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Said:
    """Who said what: all that must be known of a submission to tell what became of it."""

    source: str
    id: str
    core: bytes
    type: str
    subject: str

    @classmethod
    def of(cls, event: Event) -> "Said | None":
        """From an event; None: it has no subject, or its time is none."""
        try:
            return cls(event.source, event.id, core_digest(event), event.type, event.subject or "")
        except ValueError:
            return None

    @classmethod
    def of_record(cls, key: bytes | None, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> "Said | None":
        """From a record of an inbox; None: nobody can read it."""
        try:
            return cls.of(from_kafka(key, headers, value))
        except BadEnvelope:
            return None


@dataclass(frozen=True, slots=True)
class PublicPlace:
    """Where an admitted submission stands."""

    topic: str
    partition: int
    key: str
    position: int | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a submission.

    `forgotten`: it was handled, and no trace is left (a refusal of what nobody could have signed, older than seven
    days; a service's own tick). `first`: where the same was submitted before, when this is a repetition.
    """

    status: Literal["pending", "admitted", "rejected", "forgotten"]
    reason: Reason | None = None
    detail: str | None = None
    stands_on: PublicPlace | None = None
    first: int | None = None


async def is_handled(pool: Pool, place: Place) -> bool:
    """Whether the lane has passed a place."""
    row = await _standing(pool, place)
    return row is not None and bool(row["handled"])


async def settlement(pool: Pool, place: Place, said: Said | None) -> Settlement:
    """What became of the submission at a place that the broker has written. `said`: what it is, if that can be read."""
    row = await _standing(pool, place)
    if row is None or not row["handled"] or row["waits"]:
        return Settlement("pending")
    if row["rejection"] is not None:
        data = json.loads(row["rejection"])
        return Settlement("rejected", data["reason"], data["detail"])
    known = None if said is None else await pool.fetchrow(_IDENTITY, place.partition, said.source, said.id)
    if known is None or said is None or known["core"] != said.core:
        return Settlement("forgotten")
    if known["offset"] not in (place.offset, -1):
        return await _repetition(pool, place, said, known["offset"])
    if known["outcome"] is not None:
        return Settlement("rejected", cast(Reason, known["outcome"]), _PRUNED)
    return Settlement("admitted", stands_on=await _public_place(pool, said))


async def _repetition(pool: Pool, place: Place, said: Said, first: int) -> Settlement:
    """What became of a repetition: the same as of the first."""
    of_first = await settlement(pool, Place(place.topic, place.partition, first), said)
    return Settlement(of_first.status, of_first.reason, of_first.detail, of_first.stands_on, first)


async def _standing(pool: Pool, place: Place) -> Any:
    return await pool.fetchrow(_STANDING, place.topic, place.partition, place.offset, REJECTIONS.name, str(place))


async def _public_place(pool: Pool, said: Said) -> PublicPlace | None:
    """Where it stands, for the seven days that the outbox remembers."""
    kind = EVENTS.get(said.type)
    if kind is None or kind.topic is None:
        return None
    for row in await pool.fetch(_PUBLIC, kind.topic.name, said.subject):
        headers = dict(load_headers(row["headers"]))
        if (headers["ce_source"].decode(), headers["ce_id"].decode()) == (said.source, said.id):
            return PublicPlace(row["topic"], row["to_partition"], row["key"], row["position"])
    return None
