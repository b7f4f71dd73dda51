"""Where each millisecond of last_vote_to_authorized goes, ours beside the relay's: `tests.bench --where`."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from qalqan.topics import KEYED_PARTITIONS
from tests.bench import marks
from tests.bench.figures import Side
from tests.bench.ground import FETCH_BYTES, standing
from tests.bench.line import Stream, last_votes

_TOPICS = ("inbox.votes", "decisions", "mobilizations")
_LOG_MS = 0.5
"""The broker's times are whole milliseconds, cut off: half of one is missing on average."""

Events = Mapping[str, Sequence[float]]

# Each row: what has happened, and where that is known from (a mark and its topic, or the log).
_HOP = ("polled", "fed", "taken", "judged", "drafted")
_WROTE = ("committing", "committed", "publishing")
OURS = [
    ("inbox.votes appended", "log|inbox.votes"),
    *((f"consensus {what}", f"consensus.{what}|inbox.votes") for what in _HOP),
    *((f"consensus {what}", f"consensus.{what}|decisions") for what in _WROTE),
    ("decisions appended", "log|decisions"),
    *((f"pledge {what}", f"pledge.{what}|decisions") for what in _HOP),
    *((f"pledge {what}", f"pledge.{what}|mobilizations") for what in _WROTE),
    ("mobilizations appended", "log|mobilizations"),
]


async def where(home: Path, samples: int, seed: int, console: Console) -> None:
    """Measures with marks in every process, then prints both ways, stage by stage.

    The broker's own times have a grain of 1 ms; marks cost some microseconds each.
    """
    with tempfile.TemporaryDirectory(prefix="qalqan-marks-") as folder:
        os.environ[marks.FOLDER] = folder  # for the relays, which inherit it
        async with (
            standing(home, samples, seed, marks=Path(folder)) as ground,
            last_votes(ground) as run,
        ):
            log = await _appended(ground.run.kafka, [*_TOPICS, *(f"bench.vote-durable.{n}" for n in range(3))])
        found = marks.read(Path(folder))
    events = {name: {**found.get(name, {}), **log.get(name, {})} for name in {*found, *log}}
    relay = [
        ("first topic appended", "log|bench.vote-durable.0"),
        ("first hop polled", "vote-durable-1.polled|bench.vote-durable.0"),
        ("first hop committed", "vote-durable-1.committed|bench.vote-durable.0"),
        ("second topic appended", "log|bench.vote-durable.1"),
        ("second hop polled", "vote-durable-2.polled|bench.vote-durable.1"),
        ("second hop committed", "vote-durable-2.committed|bench.vote-durable.1"),
        ("third topic appended", "log|bench.vote-durable.2"),
    ]
    for title, stream, stages in (("ours", run.ours, OURS), ("relay", run.relay, relay)):
        await asyncio.to_thread(_show, title, stream, stages, events, console)


def _show(
    title: str,
    stream: Stream,
    stages: Sequence[tuple[str, str]],
    events: Mapping[str, Events],
    console: Console,
) -> None:
    took: list[list[float]] = [[] for _ in range(len(stages) + 1)]
    for key, read_at in stream.read_ms.items():
        line = [stream.sent_ms[key]]
        for _, place in stages:
            what, _, topic = place.partition("|")
            times = events.get(f"{topic}|{key}", {}).get(what, ())
            at = next((time for time in times if time >= line[0] - 1), None)
            if at is None:
                break
            line.append(at)
        else:
            line.append(read_at)
            for number, (earlier, later) in enumerate(pairwise(line)):
                took[number].append(later - earlier)
    if not took[0]:
        console.print(f"{title}: no sample has all its marks.")
        return
    table = Table(title=f"{title}: ms from the stage before, {len(took[0])} samples", title_justify="left")
    for column in ("stage", "mean", "p50", "p90", "p99", "sum of means"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    sum_ms = 0.0
    for (name, _), values in zip([*stages, ("read", "")], took, strict=True):
        side = Side(values, name)
        sum_ms += fmean(values)
        shown = (fmean(values), *(side.quantile(share) for share in (0.5, 0.9, 0.99)), sum_ms)
        table.add_row(name, *(f"{value:.2f}" for value in shown))
    console.print(table)


async def _appended(kafka: str, topics: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """The append times of each (topic, key), in ms of the broker's wall clock."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, max_partition_fetch_bytes=FETCH_BYTES)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for topic in topics for number in range(KEYED_PARTITIONS)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[str, dict[str, list[float]]] = {}
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    times = found.setdefault(f"{record.topic}|{(record.key or b'').decode()}", {})
                    times.setdefault("log", []).append(record.timestamp + _LOG_MS)
        return found
    finally:
        await consumer.stop()
