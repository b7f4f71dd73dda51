"""How the system stands, for those who run it: services, lanes, consumer groups; and the arithmetic behind it. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from qalqan.fields import Instant

Buckets = Mapping[float, float]
"""A histogram as Prometheus tells it: the upper bound of each bucket in seconds, and how many were not above it."""


class Effect(BaseModel):
    """From the append of a record to the append of what it brought (notify: to the stream), of a topic's records."""

    p50_ms: float | None = Field(description="Null where it lies above the largest bucket, or nothing was counted")
    p99_ms: float | None
    count: int


class LaneView(BaseModel):
    """A lane: partition `partition` of all the topics that its service reads."""

    partition: int
    lag: dict[str, int] = Field(description="Records that are not handled yet, by topic")
    rate_per_s: float | None = Field(description="Records handled, lately; null at the first look")


class ServiceView(BaseModel):
    """A replica of a service, as it tells of itself. What it does not tell, having no answer, is null or empty."""

    service: str
    address: str
    answers: bool
    ready: bool
    detail: str | None = Field(default=None, description="Why it is not well")
    window_s: float | None = Field(
        default=None, description="What rates and `lately` are of: so many seconds up to now"
    )
    published_per_s: float | None = Field(
        default=None, description="Events that the broker took; null at the first look"
    )
    effect: dict[str, Effect] = Field(default={}, description="By topic, since the process started")
    lately: dict[str, Effect] = Field(default={}, description="By topic, within `window_s`")
    lanes: list[LaneView] = []
    lag: int | None = None
    parked: int | None = None
    outbox_age_s: float | None = None
    rejected: dict[str, int] = Field(default={}, description="By the contract's reason, since the process started")
    memory_bytes: int | None = None


class PartitionView(BaseModel):
    """A group's place in a partition. `end` and `lag` are null where the topic is not there any more."""

    topic: str
    partition: int
    offset: int
    end: int | None
    lag: int | None


class GroupView(BaseModel):
    """A consumer group, ours or a stranger's. Notify keeps its place in its own store: its lag stands there."""

    group: str
    state: str = Field(examples=["Stable", "Empty", "PreparingRebalance"])
    members: int | None = Field(description="Null where the broker does not tell")
    lag: int
    partitions: list[PartitionView]


class KafkaView(BaseModel):
    """Whether Kafka answers. `left_out`: groups that are too many to be shown."""

    answers: bool
    detail: str | None = None
    left_out: int = 0


class Streams(BaseModel):
    """How everything stands, looked at once for whoever asks within a second."""

    at: Instant
    services: list[ServiceView]
    groups: list[GroupView]
    kafka: KafkaView


@dataclass(frozen=True, slots=True)
class Counted:
    """What a replica has counted since it started, at one look."""

    at: float
    """Of our monotonic clock, in seconds."""
    started: float
    """When its process started: with another number its counters began again."""
    published: float = 0
    effect: Mapping[str, Buckets] = field(default_factory=dict)
    reached: Mapping[int, int] = field(default_factory=dict)
    """Of each lane, the next offsets of all its topics together."""


def quantile_s(buckets: Buckets, q: float) -> float | None:
    """The q-quantile in seconds, straight within its bucket, as `histogram_quantile` of Prometheus has it.

    None: nothing was counted, or it lies above the largest bound.
    """
    total = buckets.get(math.inf, 0.0)
    if total <= 0:
        return None
    rank, lower, below = q * total, 0.0, 0.0
    for bound in sorted(buckets):
        count = buckets[bound]
        if count >= rank and count > below:
            return None if bound == math.inf else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return None


def effects(buckets: Mapping[str, Buckets], before: Mapping[str, Buckets]) -> dict[str, Effect]:
    """By topic, what was counted since an earlier look (an empty one: since the start); nothing of nothing."""
    found = {}
    for topic, now in buckets.items():
        then = before.get(topic, {})
        more = {bound: count - then.get(bound, 0.0) for bound, count in now.items()}
        if more.get(math.inf, 0) > 0:
            p50, p99 = (_ms(quantile_s(more, q)) for q in (0.5, 0.99))
            found[topic] = Effect(p50_ms=p50, p99_ms=p99, count=int(more[math.inf]))
    return found


def rate(now: float, then: float, seconds: float) -> float:
    """How many a second, to three figures; what is counted anew from nothing is no negative rate."""
    return round(max(0.0, now - then) / seconds, 3) if seconds > 0 else 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
