"""`qalqan submit FILE`: signs an event written as JSON or YAML, and sends it to its inbox."""

import asyncio
import difflib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from qalqan.client import Client


class BadInput(ValueError):
    """What the person gave cannot be sent; each line of the text says what and where."""


def submit(
    file: Annotated[Path, typer.Argument(help='JSON or YAML: {"type": "VoteCast", "data": {...}}.')],
    state: Annotated[str, typer.Option("--as", help="The state that says it: KZ.")],
    key: Annotated[
        Path | None,
        typer.Option(help="The key file to sign with; without it, the running system's development key."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Another source than qalqan://<network>/states/<state>.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is admitted or rejected, and say which.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="How long to wait, in seconds.")] = 30.0,
) -> None:
    """Sign what a file says, and send it to the running system ($QALQAN_HOME/run.json).

    Exit code 0: sent (with --wait: admitted); 1: rejected, or no answer in time; 2: not sent.
    """
    from aiokafka.errors import KafkaError

    from qalqan.client import Doubtful, Rejected
    from qalqan.runinfo import NotRunning

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is raised
    try:
        name, data = read_submission(file)
        client = _client(state, key, source)
        typer.echo(asyncio.run(_send(client, name, data, timeout_s if wait else None)))
    except Rejected as rejected:
        typer.echo(f"rejected: {rejected}")
        raise typer.Exit(1) from rejected
    except (TimeoutError, Doubtful) as error:
        typer.echo(f"sent, but {str(error) or f'neither admitted nor rejected within {timeout_s:g} s'}", err=True)
        raise typer.Exit(1) from error
    except (BadInput, NotRunning) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except KafkaError as error:
        typer.echo(f"not sent: Kafka does not answer as it should ({error}); see `qalqan status`", err=True)
        raise typer.Exit(2) from error


def read_submission(file: Path) -> tuple[str, dict[str, Any]]:
    """The event's name (`VoteCast`) and its data, as the contract takes them. Raises BadInput."""
    from pydantic import ValidationError

    from qalqan.complaints import complaints
    from qalqan.events import EVENTS, type_of

    content = _load(file)
    name, data = content.get("type"), content.get("data")
    if not isinstance(name, str):
        raise BadInput(f"{file}: type: missing, or not a text such as VoteCast")
    if not isinstance(data, dict):
        raise BadInput(f"{file}: data: missing, or not an object")
    if extra := content.keys() - {"type", "data"}:
        raise BadInput(f"{file}: {', '.join(sorted(extra))}: unknown here; there are `type` and `data`")
    name = name.removeprefix("qalqan.").removesuffix(".v1")
    kind = EVENTS.get(type_of(name))
    if kind is None or kind.signer != "state":
        names = [kind.name for kind in EVENTS.values() if kind.signer == "state"]
        close = difflib.get_close_matches(name, names, 1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        raise BadInput(f"{file}: type: {name!r} is not what a state submits; {meant}")
    try:
        kind.model.model_validate(data)
    except ValidationError as error:
        raise BadInput("\n".join(f"{file}: {flaw}" for flaw in complaints(error, "data"))) from error
    return name, data


def _load(file: Path) -> dict[str, Any]:
    """JSON when it begins as an object does, else YAML with JSON's scalars."""
    from qalqan.jsontext import parse
    from qalqan.replay.scenario import BadScenario, read_yaml

    try:
        content = file.read_bytes()
        if not content.lstrip().startswith(b"{"):
            # What YAML can say and the contract cannot shows in the JSON, with its place.
            content = json.dumps(read_yaml(content.decode(), str(file))[1]).encode()
        return parse(content)
    except BadScenario as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{file}: {error}") from error


def _client(state: str, key_file: Path | None, source: str | None) -> "Client":
    from qalqan.client import Client
    from qalqan.complaints import why_unreadable
    from qalqan.keys import read_key
    from qalqan.registry import Root
    from qalqan.runinfo import RunInfo
    from qalqan.sources import state_source

    run = RunInfo.load()
    key_file = key_file or run.key_path(state)
    try:
        key = read_key(key_file)
    except (OSError, ValueError) as error:
        raise BadInput(f"{key_file}: {why_unreadable(error)}") from error
    try:
        root = Root.load(run.root)
    except (OSError, ValueError) as error:
        raise BadInput(f"{run.root}: {why_unreadable(error)}") from error
    source = source or state_source(root.network, state)
    return Client(run.access(state), root=root, key=key, source=source)


async def _send(client: "Client", name: str, data: dict[str, Any], wait_s: float | None) -> str:
    """Sends it and says where it is; with `wait_s`, where once admitted. TimeoutError, Rejected."""
    async with client:
        sent = await client.submit(name, data)
        where = f"{sent.topic}/{sent.partition}/{sent.offset}"
        if wait_s is None:
            return f"sent: {name} of {sent.request_id} as {where}"
        async with asyncio.timeout(wait_s):
            message = await client.settled(sent)
        now = f"{message.topic}/{message.partition}/{message.offset}"
        return f"admitted: {name} of {sent.request_id}, {where}, now {now}"
