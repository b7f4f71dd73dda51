"""`qalqan keys`: the key files of a directory, and new ones."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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
    from qalqan.signing import Ed25519Key

    if not _STATE.fullmatch(state):
        typer.echo(f"{state}: not a state's code such as KZ or TRNC", err=True)
        raise typer.Exit(2)
    key = Ed25519Key.generate()
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(key.to_pem())
    except OSError as error:
        typer.echo(f"{out}: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{key.key_id}  {state}  {out}")


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
