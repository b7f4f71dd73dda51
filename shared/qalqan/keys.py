"""`qalqan keys`: the key files of a directory, new ones, and how one is registered and revoked."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, get_args

import typer

if TYPE_CHECKING:
    from qalqan.enrolment import Registrar
    from qalqan.signing import EcdsaP256Key, Ed25519Key

app = typer.Typer(add_completion=False)

_STATE = re.compile(r"[A-Z]{2,4}")


def read_key(file: Path) -> "Ed25519Key | EcdsaP256Key":
    """The private key in a PEM file (PKCS 8). OSError: unreadable; ValueError: not a key of the contract."""
    from qalqan.signing import EcdsaP256Key, Ed25519Key

    pem = file.read_bytes()
    try:
        return Ed25519Key.from_pem(pem)
    except ValueError:
        return EcdsaP256Key.from_pem(pem)


def new_key(out: Path) -> "Ed25519Key":
    """A new key, in a new file that only its owner can read. OSError: it cannot be made, or is there already."""
    from qalqan.signing import Ed25519Key

    key = Ed25519Key.generate()
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(key.to_pem())
    return key


@app.callback(invoke_without_command=True)
def keys(context: typer.Context) -> None:
    """Show the keys of a directory, or make a new one."""
    if context.invoked_subcommand is None:
        show(None)


@app.command()
def show(
    directory: Annotated[
        Path | None, typer.Argument(help="Where the PEM files are; without it, the running system's.")
    ] = None,
) -> None:
    """Show each key file: whose it is, its id, where it is."""
    from rich.console import Console
    from rich.table import Table

    from qalqan.runinfo import home

    directory = directory or home() / "keys"
    files = sorted(directory.rglob("*.pem")) if directory.is_dir() else []
    if not files:
        typer.echo(f"{directory}: no key files (*.pem)", err=True)
        raise typer.Exit(2)
    table = Table("source", "key id", "file", title_justify="left")
    for file in files:
        try:
            key_id = read_key(file).key_id
        except (OSError, ValueError) as error:
            key_id = f"not a key: {error}"
        open_to_others = file.stat().st_mode & 0o077
        note = " (open to others: chmod 600)" if open_to_others else ""
        table.add_row(_source(file, directory), key_id, f"{file}{note}")
    Console(width=None if os.isatty(1) else 240, markup=False).print(table)


@app.command()
def new(
    state: Annotated[str, typer.Argument(help="The state's code: KZ.")],
    out: Annotated[Path, typer.Option(help="The file to make; none is overwritten.")],
) -> None:
    """Make an Ed25519 key file that only its owner can read, and print the key's id.

    It counts for nothing until the Secretariat has registered it.
    """
    if not _STATE.fullmatch(state):
        typer.echo(f"{state}: not a state's code such as KZ or TRNC", err=True)
        raise typer.Exit(2)
    try:
        key = new_key(out)
    except OSError as error:
        typer.echo(f"{out}: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{key.key_id}  {state}  {out}")


Office = Annotated[
    Path | None,
    typer.Option("--by", help="The Secretariat's key; without it, the one of the development network that runs."),
]
Trusted = Annotated[Path | None, typer.Option("--root", help="root.json; without it, the running system's.")]
Url = Annotated[
    str | None, typer.Option("--url", help="The secretariat service's address; without it, the running system's.")
]


@app.command()
def claim(
    file: Annotated[Path, typer.Argument(help="The private key; it stays here.")],
    state: Annotated[str, typer.Option("--as", help="The state whose key it is: KZ.")],
    root: Trusted = None,
) -> None:
    """Print what the Secretariat needs to register a key: whose it is said to be, and the proof that one has it."""
    from qalqan import enrolment
    from qalqan.complaints import why_unreadable
    from qalqan.reach import BadInput, root_of

    if not _STATE.fullmatch(state):
        _stop(f"{state}: not a state's code such as KZ or TRNC")
    try:
        network = root_of(root).network
    except BadInput as error:
        _stop(str(error))
    try:
        key = read_key(file)
    except (OSError, ValueError) as error:
        _stop(f"{file}: {why_unreadable(error)}")
    typer.echo(enrolment.claim(network, state, key).model_dump_json(indent=1))


@app.command()
def register(
    file: Annotated[Path, typer.Argument(help="A claim, as `qalqan keys claim` prints it.")],
    scopes: Annotated[
        str, typer.Option(help="What it may sign, with commas: request,pledge,accept,vote,track,consent.")
    ],
    days: Annotated[int | None, typer.Option(min=1, help="For how long; without it, until it is revoked.")] = None,
    by: Office = None,
    root: Trusted = None,
    url: Url = None,
) -> None:
    """For the Secretariat: register a key that a state claims, from now on.

    That it is really that state's, make sure on another way.
    """
    from qalqan import enrolment
    from qalqan.events import Scope

    named = scopes.split(",")
    if unknown := set(named) - set(get_args(Scope)):
        _stop(f"--scopes: {', '.join(sorted(unknown))}: there are {', '.join(get_args(Scope))}")
    try:
        claimed = enrolment.read_claim(file.read_bytes())
    except (OSError, enrolment.NotEnrolled) as error:
        _stop(f"{file}: {(isinstance(error, OSError) and error.strerror) or error}")
    now = datetime.now(UTC).replace(microsecond=0)
    until = None if days is None else now + timedelta(days=days)
    typed: list[Scope] = [scope for scope in get_args(Scope) if scope in named]
    _at_the_register(by, root, url, lambda registrar: registrar.register(claimed, typed, now, until), "registered")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="64 hex digits, as `qalqan keys show` has it.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.")],
    by: Office = None,
    root: Trusted = None,
    url: Url = None,
) -> None:
    """For the Secretariat: take a key out of use, from now on and for ever."""
    _at_the_register(by, root, url, lambda registrar: registrar.revoke(key_id, reason), "revoked")


def _at_the_register(
    by: Path | None, root: Path | None, url: str | None, act: "Callable[[Registrar], Awaitable[str]]", done: str
) -> None:
    """Runs an act of the Secretariat, and says what came of it."""
    import logging

    import httpx2
    from aiokafka.errors import KafkaError

    from qalqan.client import Client, Doubtful
    from qalqan.complaints import why_unreadable
    from qalqan.enrolment import NotEnrolled, Registrar
    from qalqan.reach import BadInput, address, kafka, root_of
    from qalqan.runinfo import NotRunning, RunInfo

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is raised

    async def run() -> str:
        async with Client(kafka(), root=root_of(root)) as client:
            return await act(Registrar(client, address(url, "secretariat"), key))

    try:
        office = by or Path(RunInfo.load().keys) / "offices" / "secretariat.pem"
        try:
            key = read_key(office)
        except (OSError, ValueError) as error:
            _stop(f"{office}: {why_unreadable(error)}")
        typer.echo(f"{done}: {asyncio.run(run())}")
    except NotEnrolled as error:
        typer.echo(f"not {done}: {error}", err=True)
        raise typer.Exit(1) from error
    except (NotRunning, BadInput, Doubtful, KafkaError, ValueError, httpx2.TransportError) as error:
        _stop(f"not {done}: {error}")


def _stop(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(2)


def _source(file: Path, directory: Path) -> str:
    """Whose key a file of the runner's layout is: `KZ.pem`, `services/request.pem`, `offices/root.pem`."""
    from qalqan.registry import Root

    try:
        network = Root.load(directory.parent / "root.json").network
    except (OSError, ValueError):
        network = "<network>"
    name = file.relative_to(directory).with_suffix("").as_posix()
    path = f"states/{name}" if _STATE.fullmatch(name) else name.removeprefix("offices/")
    return f"qalqan://{network}/{path}"
