"""`python -m tests.fuzz --records N --seed S`: a system of its own, a bar, and a table of what came of everything."""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.local.stack import Stack
from tests.fuzz import http, run

CHUNK = 4_000
HTTP_SHARE = 25
"""One submission over HTTP for so many over Kafka."""


def fuzz(system: Stack, seed: int, records: int, console: Console) -> tuple[Counter[str], Counter[str]]:
    """What came of the records, and of the submissions over HTTP. A chunk's seed is the first and its number."""
    kafka: Counter[str] = Counter()
    doors: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        over_kafka = progress.add_task("inboxes", total=records)
        over_http = progress.add_task("HTTP", total=records // HTTP_SHARE)
        for number, start in enumerate(range(0, records, CHUNK)):
            count = min(CHUNK, records - start)
            try:
                kafka += asyncio.run(run.over_kafka(system, seed + number, count))
                progress.advance(over_kafka, count)
                doors += asyncio.run(http.over_http(system, seed + number, count // HTTP_SHARE))
                progress.advance(over_http, count // HTTP_SHARE)
            except AssertionError:
                console.print(f"[red]after {start} records; again: make fuzz SEED={seed + number} N={count}")
                raise
    return kafka, doors


def main() -> None:
    """Runs it; a fault ends it with an AssertionError that says which record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    asked = parser.parse_args()
    console = Console(width=100)
    console.print(f"SEED={asked.seed} N={asked.records}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home, Stack(Path(home)) as system:
        kafka, doors = fuzz(system, asked.seed, asked.records, console)
    table = Table("came to", "inboxes", "HTTP", title=f"{kafka.total() + doors.total():,} mutated submissions")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, _ in (kafka + doors).most_common():
        table.add_row(what, f"{kafka[what]:,}", f"{doors[what]:,}")
    console.print(table)
    console.print(f"every one accounted for, 0 crashes, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
