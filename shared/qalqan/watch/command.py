"""`qalqan watch`."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from qalqan.access import VARIABLES
from qalqan.reach import BadInput, address, root_of
from qalqan.reach import kafka as kafka_of_here
from qalqan.runinfo import NotRunning, RunInfo
from qalqan.watch.log import from_kafka
from qalqan.watch.online import Address, Find, Refused, from_stream
from qalqan.watch.show import Show, encodable, show_on, to_stderr
from qalqan.watch.sighting import Sighting, Wanted, name_of

MODES = ("actual", "exercise", "test")


def watch(
    request: Annotated[list[str] | None, typer.Option(help="Only this request; may repeat, as all filters.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only what this state says, or its requests.")] = None,
    type: Annotated[list[str] | None, typer.Option(help="Only this event: VoteCast.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="Only actual, exercise or test.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Not from now on, but from the first.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One structured CloudEvent a line.")] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help=f"From Kafka itself: ${VARIABLES['bootstrap_servers']}, or run.json's.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="Notify's address; without it, run.json's.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="QALQAN_TOKEN", help="To show notify; without it, run.json's.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="root.json, all that is trusted; without it, run.json's.")] = None,
) -> None:
    """Show public events as they come, each signature checked here, until Ctrl-C.

    Exit code 0: stopped; 2: it cannot be watched.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is raised
    try:
        wanted = _wanted(request or [], state or [], type or [], mode or [])
        trusted = root_of(root)
        if kafka:
            sightings = from_kafka(kafka_of_here(), trusted, from_beginning=from_beginning, tell=to_stderr)
        else:
            find = _finder(url, token)
            sightings = from_stream(find, trusted, wanted, from_beginning=from_beginning, tell=to_stderr)
        show = show_on(encodable(sys.stdout), as_json=json)
        asyncio.run(_watch(sightings, wanted, show))
    except (BadInput, NotRunning, Refused) as error:
        to_stderr(str(error))
        raise typer.Exit(2) from error
    except KafkaError as error:
        to_stderr(f"Kafka does not answer as it should ({error})")
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _watch(sightings: AsyncGenerator[Sighting, None], wanted: Wanted, show: Show) -> None:
    """Shows what is wanted until told to stop: SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with aclosing(sightings):
            async for sighting in sightings:
                if wanted.takes(sighting):
                    show(sighting)
    except asyncio.CancelledError:
        pass


def _wanted(requests: list[str], states: list[str], types: list[str], modes: list[str]) -> Wanted:
    names = {text: name_of(text) for text in types}
    if unknown := [text for text, name in names.items() if name is None]:
        raise BadInput(f"--type {', '.join(unknown)}: there is no such event")
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise BadInput(f"--mode {', '.join(unknown)}: there are {', '.join(MODES)}")
    return Wanted(requests, states, [name for name in names.values() if name is not None], modes)


def _finder(url: str | None, token: str | None) -> Find:
    """Where notify is: as told, or as run.json has it at each attempt. NotRunning, BadInput: nowhere now."""
    if url is not None:
        told = Address(address(url, "notify"), token or "")
        return lambda: told

    def now() -> Address:
        return Address(address(None, "notify"), token or RunInfo.load().token or "")

    now()

    def find() -> Address | None:
        try:
            return now()
        except (NotRunning, BadInput):
            return None

    return find
