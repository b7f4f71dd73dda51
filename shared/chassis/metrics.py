"""What a service tells of itself, for Prometheus: `GET /metrics` (exposition format 0.0.4).

What happens is counted as it happens; how things stand is looked at when somebody asks. All names begin with `qalqan_`.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

from prometheus_client import REGISTRY, Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qalqan.events import Reason
from qalqan.topics import Topic

disable_created_metrics()  # type: ignore[no-untyped-call]

EFFECT_SECONDS = Histogram(
    "qalqan_effect_seconds",
    "From the append of a record to the append of what it brought: the oldest of each transaction, by its topic",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
PUBLISHED = Counter("qalqan_published_events", "Events that the broker has, by public topic", ["topic"])
REJECTED = Counter("qalqan_rejected_submissions", "Submissions refused, by the contract's reason", ["reason"])
DOUBTED = Counter("qalqan_doubted_facts", "Records of public topics that nobody believed: somebody forges", ["topic"])


def begin(reads: Iterable[Topic], judges: bool = True) -> None:
    """Counts stand at 0 before anything happens: what begins at 1 is no increase to Prometheus. `judges`: whether it
    refuses and doubts, or only reads."""
    for topic in reads:
        EFFECT_SECONDS.labels(topic.name)
        if topic.kind == "public" and judges:
            DOUBTED.labels(topic.name)
    for reason in get_args(Reason) if judges else ():
        REJECTED.labels(reason)


class Record(Protocol):
    """As much of a consumer's record as is asked here."""

    topic: str
    timestamp: int


def caused_at(records: Iterable[Record]) -> dict[str, float]:
    """When the broker took the oldest of these records, by topic; they come in order."""
    oldest: dict[str, float] = {}
    for record in records:
        oldest.setdefault(record.topic, record.timestamp / 1000)
    return oldest


def took_effect(caused: Mapping[str, float]) -> None:
    """What came of these records (`caused_at`) is there for others now."""
    now = time.time()
    for topic, at in caused.items():
        EFFECT_SECONDS.labels(topic).observe(now - at)


@dataclass(frozen=True, slots=True)
class Measure:
    """How a service's own things stand: the name without `qalqan_`, what it means, its value."""

    name: str
    meaning: str
    value: float


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """How a lane stands: what of each topic is not handled yet, what waits, since when something is not out."""

    partition: int
    lag: dict[str, int]
    """Records, by topic."""
    parked: int = 0
    unsent_since: float | None = None
    """Seconds since 1970; None: all that was committed is out."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """The offset of the next record to handle, by topic."""


class Standing(Collector):
    """How the lanes of a replica stand, looked at when somebody asks."""

    def __init__(
        self, lanes: Callable[[], Iterable[LaneStanding]], own: Callable[[], Iterable[Measure]] = lambda: ()
    ) -> None:
        self._lanes = lanes
        self._own = own

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, now."""
        lanes = list(self._lanes())
        yield _gauge("lanes", "Lanes that this replica owns", len(lanes))
        lag = _gauge("lag_records", "Records that are not handled yet", labels=["topic", "partition"])
        reached = _gauge(
            "next_offset", "The next record to handle; its rise is the rate", labels=["topic", "partition"]
        )
        parked = _gauge("parked_submissions", "Submissions that wait for their request", labels=["partition"])
        unsent = _gauge("outbox_age_seconds", "How long something committed is not out", labels=["partition"])
        now = time.time()
        for lane in lanes:
            for topic, records in lane.lag.items():
                lag.add_metric([topic, str(lane.partition)], records)
            for topic, offset in lane.reached.items():
                reached.add_metric([topic, str(lane.partition)], offset)
            parked.add_metric([str(lane.partition)], lane.parked)
            age = 0.0 if lane.unsent_since is None else now - lane.unsent_since
            unsent.add_metric([str(lane.partition)], age)
        yield from (lag, reached, parked, unsent)
        for measure in self._own():
            yield _gauge(measure.name, measure.meaning, measure.value)


@contextlib.contextmanager
def told(standing: Collector) -> Iterator[None]:
    """Prometheus is told of it while the block runs."""
    REGISTRY.register(standing)
    try:
        yield
    finally:
        REGISTRY.unregister(standing)


def _gauge(name: str, meaning: str, value: float | None = None, labels: list[str] | None = None) -> Any:
    return GaugeMetricFamily(f"qalqan_{name}", meaning, value=value, labels=labels)
