"""The command line `qalqan`: each command is a module of its own, imported when it is called.

Other distributions add commands by entry points of the group `qalqan.commands`: the name is the command's,
the value a function or a `typer.Typer`.
"""

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

OWN: Final = {
    "contract": "qalqan.contract:app",
    "keys": "qalqan.keys:app",
    "replay": "qalqan.replay.command:replay",
    "submit": "qalqan.submit:submit",
    "verify": "qalqan.verify:verify",
    "watch": "qalqan.watch.command:watch",
}
OF_THE_SYSTEM: Final = ("demo", "doctor", "down", "prepare", "rebuild", "rotate", "secrets", "status", "token", "up")
PLUGINS: Final = "qalqan.commands"


class LazyGroup(TyperGroup):
    """Finds a command by name without importing the others; `--help` imports all, for their first lines.

    Its types are those of the click that typer brings along, which has no public name.
    """

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        own = (EntryPoint(name, value, PLUGINS) for name, value in OWN.items())
        return {command.name: command for command in (*entry_points(group=PLUGINS), *own)}

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self._found)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = self._found.get(cmd_name)
        if found is not None:
            return _as_command(cmd_name, found.load())
        return _as_command(cmd_name, _absent(cmd_name)) if cmd_name in OF_THE_SYSTEM else None


def _as_command(name: str, what: typer.Typer | Callable[..., Any]) -> Any:
    if not isinstance(what, typer.Typer):
        function, what = what, typer.Typer(add_completion=False)
        what.command(name)(function)
    command = get_command(what)
    command.name = name
    return command


def _absent(name: str) -> Callable[[], None]:
    def absent() -> None:
        typer.echo(
            f"`qalqan {name}` belongs to the system itself: install that from its checkout (`make install`). "
            "The package `qalqan` alone has what takes part in a system that runs.",
            err=True,
        )
        raise typer.Exit(2)

    return absent


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def _about() -> None:
    """Take part in Qalqan: verify decisions, keep keys, submit signed events, watch, replay a scenario."""


if __name__ == "__main__":
    app()
