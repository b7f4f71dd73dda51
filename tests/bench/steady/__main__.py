"""`python -m tests.bench.steady [--minutes 60] [--rate 10]`: steady load on a system of its own.

Writes steady.csv (a row each ten seconds), steady.svg and steady.json (the verdict) into `--out`; progress on standard
error, the verdict as one JSON object on standard output. Exit code 0: flat; 1: not; 2: too short to tell.
"""

import argparse
import asyncio
import csv
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from rich.table import Table

from deploy.local.roles import SERVICES
from tests.bench.ground import ROOT, Reader, progress, standing
from tests.bench.steady import load as the_load
from tests.bench.steady import plot
from tests.bench.steady.load import Load
from tests.bench.steady.sample import OURS, Row, Sampler
from tests.bench.steady.verdict import RULE, Outcome, after_warmup, judge, quarters, slope_an_hour

_EVERY_S = 10.0
_WARMUP_MINUTES = 5.0
_SETTLE_S = 2.0


def main() -> int:
    """Runs the load, judges and draws it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steady", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second (default: 10)")
    parser.add_argument("--seed", type=int, default=2023, help="of the requests' moments")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where the files go (default: docs)")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    rows, outcome = uvloop.run(_run(asked.minutes, asked.rate, asked.seed, asked.out))
    return _tell(rows, outcome, asked.minutes, asked.rate, asked.out)


async def _run(minutes: float, rate: float, seed: int, out: Path) -> tuple[list[Row], Outcome]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="qalqan-steady-") as home, (out / "steady.csv").open("w") as file:
        async with standing(Path(home), samples=0, seed=seed) as ground:
            assert ground.run.database is not None
            # The services' tables are named with their schema; notify's own queries need none.
            database = await asyncpg.connect(ground.run.database, server_settings={"search_path": "notify"})
            consumer = AIOKafkaConsumer(bootstrap_servers=ground.run.kafka, group_id=None)
            await consumer.start()
            try:
                async with Reader(ground.run.kafka, the_load.FOLLOWED) as reader:
                    load = Load(ground, reader, rate)
                    sampler = Sampler(ground, load, consumer, database)
                    await sampler.sample()  # processor time counts from here
                    driving = asyncio.create_task(load.run(minutes * 60))
                    while not driving.done():
                        await asyncio.wait([driving], timeout=_EVERY_S)
                        if driving.done():
                            break
                        try:
                            rows.append(await sampler.sample())
                        except (KeyError, OSError, asyncpg.PostgresError, KafkaError) as error:
                            progress.print(f"No sample: {error!r}")  # something is being started again
                            continue
                        _note(file, rows)
                        _show(rows[-1], load, minutes)
                    await driving
                    await asyncio.sleep(_SETTLE_S)
                    await sampler.sample()
            finally:
                await consumer.stop()
                await database.close()
    asked = load.raised + load.held_back
    return rows, Outcome(asked, load.ended, load.lost, sampler.rejections, sampler.restarts)


def _note(file: TextIO, rows: Sequence[Row]) -> None:
    """Adds the newest row at once: a run that breaks off leaves what it saw."""
    writer = csv.writer(file)
    if len(rows) == 1:
        writer.writerow(rows[0])
    writer.writerow(f"{value:.5g}" for value in rows[-1].values())
    file.flush()


def _show(row: Row, load: Load, minutes: float) -> None:
    memory = sum(row[f"{service}_mb"] for service in SERVICES)
    lag = sum(row[f"{service}_lag"] for service in SERVICES)
    lost = f" [red]{load.lost} lost, {load.held_back} held back[/]" if load.lost + load.held_back else ""
    progress.print(
        f"{row['minutes']:5.1f} of {minutes:g} min: {load.ended} requests ended,"
        f" {row['requests_per_s']:.1f}/s; {memory:.0f} MB; lag {lag:.0f}; p50 {row['p50_ms']:.1f} ms,"
        f" p99 {row['p99_ms']:.1f}; processor {row['machine_cpu']:.0f} %{lost}",
        highlight=False,
    )


def _tell(rows: Sequence[Row], outcome: Outcome, minutes: float, rate: float, out: Path) -> int:
    warmup = min(_WARMUP_MINUTES, minutes / 5)
    try:
        checks = judge(rows, warmup, rate * the_load.SUBMISSIONS, outcome)
    except ValueError as error:
        progress.print(str(error))
        return 2
    flat = all(check.ok for check in checks)
    per_request = (rows[-1]["database_mb"] - rows[0]["database_mb"]) / (outcome.ended or 1) * 1000
    settled = after_warmup(rows, warmup)
    at = [row["minutes"] for row in settled]
    memory = [sum(row[f"{service}_mb"] for service in SERVICES) for row in settled]
    others = [row["machine_cpu"] - sum(row[f"{name}_cpu"] for name in OURS) for row in settled]
    verdict = {
        "name": "steady_load",
        "flat": flat,
        "rule": RULE,
        "minutes": minutes,
        "warmup_minutes": warmup,
        "requests_per_s": rate,
        "submissions_per_s": rate * the_load.SUBMISSIONS,
        "requests": asdict(outcome),
        "memory_slope_mb_an_hour": round(slope_an_hour(at, memory), 1),
        "p50_slope_ms_an_hour": round(slope_an_hour(at, [row["p50_ms"] for row in settled]), 2),
        # Whoever else was at work slows everything: per cent of one core, first quarter and last.
        "others_cpu": [round(share) for share in quarters(others)],
        "database_kb_a_request": round(per_request, 1),
        "checks": [check.as_json() for check in checks],
    }
    (out / "steady.json").write_text(json.dumps(verdict, indent=1) + "\n")
    title = f"{rate:g} requests a second ({rate * the_load.SUBMISSIONS:g} submissions) for {minutes:g} minutes"
    plot.draw(rows, title, warmup, out / "steady.svg")
    table = Table(title=f"{title}: {'flat' if flat else 'not flat'}", title_justify="left")
    for name in ("what", "first quarter", "last quarter", "at most", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    for check in checks:
        numbers = (f"{value:.1f}" for value in (check.before, check.after, check.at_most))
        table.add_row(check.what, *numbers, "" if check.ok else "[red]no[/]")
    progress.print(table)
    print(json.dumps(verdict), flush=True)
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
