"""`qalqan demo`: everything up, a real disaster replayed and checked, a report, everything down."""

import asyncio
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from deploy.local.errors import CannotStart, explain
from qalqan.replay.command import DEFAULT_SPEED, finish, run_scenario
from qalqan.replay.scenario import BadScenario, load
from qalqan.runinfo import RunInfo

SCENARIO = Path(__file__).parents[2] / "tests" / "scenarios" / "tr-earthquake-2023-02-06.yaml"


def demo(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (docs/scenarios.md).")] = SCENARIO,
    speed: Annotated[
        float, typer.Option(min=0, help="Seconds of the scenario in one second; 0: without pauses.")
    ] = DEFAULT_SPEED,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Start a network of its own, replay a disaster through it, check what came of it, report, stop."""
    from deploy.local.stack import Stack

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters comes as CannotStart
    console = Console(stderr=json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # 128 + 15, as shells have it: everything down first
    started = time.monotonic()
    try:
        loaded = load(scenario)
        with tempfile.TemporaryDirectory(prefix="qalqan-demo-") as home:
            stack = Stack(Path(home), tell=lambda word: console.print(word, soft_wrap=True))
            with console.status("Starting Kafka, PostgreSQL and five services ..."):
                stack.start()
            try:
                console.print(f"Ready in {time.monotonic() - started:.1f} s.")
                run = RunInfo.load(Path(home) / "run.json")
                report = asyncio.run(run_scenario(loaded, run, speed=speed, console=console))
            finally:
                stack.stop()
    except (BadScenario, CannotStart, OSError, KafkaError) as failure:
        error = explain(failure, "playing the demo") if isinstance(failure, OSError) else failure
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from failure
    finish(report, json=json)
