"""`qalqan token`: who may read over HTTP, in which role, until when (what a service makes of it: `chassis.tokens`)."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from chassis.tokens import Role, Token, TokenFile, new_token
from deploy.local.cli import DEFAULT_HOME, Home, console, errors, sentences
from deploy.local.errors import CannotStart
from deploy.local.private import TOKENS, write_private
from qalqan.complaints import why_unreadable
from qalqan.instants import format_instant

_MOST_DAYS = 3650

File = Annotated[
    Path | None,
    typer.Option(envvar="QALQAN_TOKENS", help="The file of tokens; without it, tokens.json of the home."),
]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make, list and revoke tokens for reading over HTTP."
)


@app.command()
def make(
    role: Annotated[Role, typer.Option(help="What its holder may do.")],
    name: Annotated[str, typer.Option(help="Who holds it, for people: no personal data.")],
    state: Annotated[str | None, typer.Option(help="The state's code (KZ): an operator's, an integrator's.")] = None,
    days: Annotated[int, typer.Option(min=1, max=_MOST_DAYS, help="How long it counts.")] = 90,
    home: Home = DEFAULT_HOME,
    file: File = None,
) -> None:
    """Make a token and print it, this once: the file keeps only a digest. Services know it within a second."""
    now = datetime.now(UTC).replace(microsecond=0)
    with sentences():
        try:
            shown, token = new_token(role, state, name, now, now + timedelta(days=days))
        except ValidationError as error:
            raise CannotStart(
                f"{why_unreadable(error)}: an operator needs --state KZ, an integrator may have one."
            ) from None
        with changing(_place(home, file)) as tokens:
            tokens.append(token)
    errors.print(
        f"{_whose(token)}, until {format_instant(token.valid_until)}. It is not shown again; "
        f"`qalqan token revoke {token.token_id}` takes it back.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    print(shown)


@app.command(name="list")
def listed(home: Home = DEFAULT_HOME, file: File = None) -> None:
    """Show all tokens that were made, and whether they count."""
    with sentences():
        path = _place(home, file)
        tokens = _load(path).tokens
    if not tokens:
        console.print(f"No tokens in {path}: `qalqan token make`.", markup=False, soft_wrap=True)
        return
    table = Table()
    for column in ("id", "role", "state", "name", "made", "until", "counts"):
        table.add_column(column, no_wrap=column in ("id", "made", "until"), overflow="fold")
    now = datetime.now(UTC)
    for token in tokens:
        why = token.over(now)
        counts = Text("yes", "green") if why is None else Text(f"no: {why}", "dim")
        made, until = f"{token.made_at:%Y-%m-%d}", f"{token.valid_until:%Y-%m-%d}"
        table.add_row(token.token_id, token.role, token.state or "-", Text(token.name), made, until, counts)
    console.print(table)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `qalqan token list` shows it.")],
    home: Home = DEFAULT_HOME,
    file: File = None,
) -> None:
    """Take a token back: no service takes it any more a second later, and streams that it reads end."""
    with sentences():
        path = _place(home, file)
        with changing(path) as tokens:
            number = next((n for n, token in enumerate(tokens) if token.token_id == token_id), None)
            if number is None:
                raise CannotStart(f"There is no token {token_id} in {path}: see `qalqan token list`.")
            token = tokens[number]
            if token.revoked_at is None:
                now = datetime.now(UTC).replace(microsecond=0)
                tokens[number] = token = token.model_copy(update={"revoked_at": now})
    assert token.revoked_at is not None
    console.print(
        f"{_whose(token)}: revoked on {format_instant(token.revoked_at)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _whose(token: Token) -> str:
    return f"Token {token.token_id} of {token.name!r}, {token.role}{f' of {token.state}' if token.state else ''}"


def _place(home: Path, file: Path | None) -> Path:
    if file is None and not (home / "root.json").exists():
        raise CannotStart(f"There is no network in {home}: name its place with --home, or the file with --file.")
    return file or home / TOKENS


def _load(path: Path) -> TokenFile:
    try:
        return TokenFile.load(path)
    except (OSError, ValidationError) as error:
        raise CannotStart(f"{path} cannot be used: {why_unreadable(error)}.") from error


@contextlib.contextmanager
def changing(path: Path) -> Iterator[list[Token]]:
    """The tokens of a file, to be changed by one at a time; written whole when the block ends, or not at all."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        tokens = list(_load(path).tokens)
        yield tokens
        write_private(path, TokenFile(tokens=tuple(tokens)).model_dump_json(indent=1).encode())
    finally:
        os.close(folder)


if __name__ == "__main__":
    app()
