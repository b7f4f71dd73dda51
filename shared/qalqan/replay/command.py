"""`qalqan replay SCENARIO.yaml [--speed N] [--json]` (CONTRACT "The runner")."""

import asyncio
import json as jsonlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from qalqan.client import Client, Doubtful
from qalqan.replay.checks import Check, check, collect
from qalqan.replay.player import play
from qalqan.replay.report import Report
from qalqan.replay.scenario import BadScenario, Scenario, load
from qalqan.replay.timeline import Timeline
from qalqan.runinfo import NotRunning, RunInfo

DEFAULT_SPEED = 43_200.0
"""Half a day of the scenario in a second."""


async def run_scenario(scenario: Scenario, run: RunInfo, *, speed: float, console: Console) -> Report:
    """Plays a scenario through the system of `run`, its timeline on `console`, and checks what came of it."""
    timeline = Timeline(console)
    played = await play(scenario, run, speed=speed, on_seen=timeline.add)
    try:
        async with Client.connect(run) as reader:
            checks = check(await collect(reader, played.request_id), played)
    except Doubtful as error:
        checks = [Check("public topics readable", False, str(error))]
    return Report(played, checks, timeline.entries)


def replay(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (docs/scenarios.md).")],
    speed: Annotated[
        float, typer.Option(min=0, help="Seconds of the scenario in one second; 0: without pauses.")
    ] = DEFAULT_SPEED,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Play a scenario through the running system, and check from the public topics what came of it."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is raised, or found by the checks
    errors = Console(stderr=True)
    try:
        loaded, run = load(scenario), RunInfo.load()
        report = asyncio.run(run_scenario(loaded, run, speed=speed, console=errors if json else Console()))
    except (BadScenario, NotRunning, OSError, KafkaError) as error:
        errors.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    finish(report, json=json)


def finish(report: Report, *, json: bool) -> None:
    """Prints the report, or its JSON as the last line; leaves with 0 if every check holds, else with 1."""
    if json:
        sys.stdout.write(jsonlib.dumps(report.as_json(), ensure_ascii=False) + "\n")
    else:
        report.show(Console())
    raise typer.Exit(0 if report.ok else 1)
