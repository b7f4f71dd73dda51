"""How an event is shown: a row of a table in a terminal, a plain line elsewhere, or JSON."""

import json
import sys
from typing import Protocol, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qalqan.instants import format_instant, from_millis
from qalqan.watch.sighting import Sighting
from qalqan.words import harmless, spaced, what

_MODES = {"actual": "bold", "exercise": "black on yellow", "test": "black on cyan"}
_KINDS = {"state": "cyan", "service": "magenta"}
_WIDTHS = {"time": 15, "mode": 10, "request": 20, "event": 22, "who": 11, "signature": 9}
"""Of each column but the last, which has the rest."""
_NARROW = {"time": 8, "mode": 8, "request": 18, "event": 19, "who": 9, "signature": 9}
"""In a terminal of 80 columns: without the date, and the last column is a line of its own."""
_ENOUGH = 120
_INDENT = 9


class Show(Protocol):
    """Shows events, one after the other."""

    def __call__(self, sighting: Sighting) -> None:
        """Shows one."""


def show_on(out: TextIO, *, as_json: bool) -> Show:
    """What suits the place: `out` is a terminal, or a pipe or file."""
    if as_json:
        return lambda sighting: _line(out, json.dumps(sighting.structured()))
    if out.isatty():
        return Rows(Console(file=out, markup=False, highlight=False, emoji=False))
    return lambda sighting: _line(out, "  ".join(_plain(sighting)))


class Rows:
    """Rows of one table, each printed when it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_wide = console.width >= _ENOUGH
        self._print(*(Text(name, "bold") for name in (*_WIDTHS, "what")))

    def __call__(self, sighting: Sighting) -> None:
        """Prints one."""
        message, source, mode = sighting.message, sighting.source, sighting.mode
        believed = sighting.doubt is None
        self._print(
            Text(f"{from_millis(message.timestamp_ms):{'%d %b %H:%M:%S' if self._is_wide else '%H:%M:%S'}}", "dim"),
            Text(_mode(mode), _MODES.get(mode or "", "")),
            Text(_request(sighting)),
            Text(harmless(message.name)),
            Text(_who(sighting), _KINDS.get(source.kind if source else "", "")),
            Text("valid" if believed else "NOT VALID", "green" if believed else "bold white on red"),
            Text(_what(sighting), "" if believed else "red"),
        )

    def _print(self, *cells: Text) -> None:
        row = Table.grid(padding=(0, 1), expand=self._is_wide)
        for width in (_WIDTHS if self._is_wide else _NARROW).values():
            row.add_column(width=width, no_wrap=True, overflow="ellipsis")
        *first, what = cells
        if self._is_wide:
            row.add_column(ratio=1, min_width=20, overflow="fold")
            row.add_row(*cells)
            self._console.print(row)
        else:
            row.add_row(*first)
            self._console.print(row)
            self._console.print(Padding(what, (0, 0, 0, _INDENT)), overflow="fold")


def _plain(sighting: Sighting) -> list[str]:
    """The same for a pipe: whole, in columns, with the full time."""
    return [
        format_instant(from_millis(sighting.message.timestamp_ms)),
        f"{_mode(sighting.mode):<8}",
        f"{_request(sighting):<16}",
        f"{harmless(sighting.message.name):<22}",
        f"{_who(sighting):<11}",
        "valid    " if sighting.doubt is None else "NOT VALID",
        _what(sighting),
    ]


def _mode(mode: str | None) -> str:
    """Whatever is not actual stands out."""
    return "-" if mode is None else mode if mode == "actual" else harmless(mode.upper(), 8)


def _request(sighting: Sighting) -> str:
    return harmless(sighting.request_id or "-", 60)


def _who(sighting: Sighting) -> str:
    source = sighting.source
    return harmless(sighting.message.event.source if source is None else source.name, 40)


def _what(sighting: Sighting) -> str:
    """In a few words; what is not to be believed says why first."""
    message = sighting.message
    try:
        said = what(message.name, message.data)
    except (KeyError, TypeError, ValueError, AttributeError):
        said = spaced(message.name)  # a later version's, or not to be believed anyway
    return harmless(said if sighting.doubt is None else f"({sighting.doubt}) {said}")


def _line(out: TextIO, text: str) -> None:
    out.write(text + "\n")
    out.flush()


def encodable(out: TextIO) -> TextIO:
    """The same, where what its encoding has not is shown as escapes: no text of a stranger stops us."""
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return out


def to_stderr(sentence: str) -> None:
    """A sentence about the watching itself."""
    sys.stderr.write(harmless(sentence) + "\n")
    sys.stderr.flush()
