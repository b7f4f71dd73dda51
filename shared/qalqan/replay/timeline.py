"""The live timeline: who did what, when in scenario time, and how long it took the system in real time."""

from typing import Any

from rich.console import Console
from rich.text import Text

from qalqan.replay.player import Seen
from qalqan.sources import Source
from qalqan.words import what, when

_STYLES = {"state": "cyan", "service": "magenta"}


def who(seen: Seen) -> str:
    """The state's code, or the service's name."""
    source = Source.parse(seen.message.event.source)
    return source.name if source else seen.message.event.source


class Timeline:
    """Prints events as they come, and keeps them as data."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.entries: list[dict[str, Any]] = []
        """`at` (scenario), `who`, `event`, `what`, `assumed` (figures), `latency_ms`."""

    def add(self, seen: Seen) -> None:
        """Prints and keeps one event. Figures that the scenario assumes are named behind it."""
        planned = seen.sent.planned if seen.sent is not None else None
        assumed = list(planned.assumed) if planned else []
        text = what(seen.message.name, seen.message.data)
        self.entries.append(
            {
                "at": f"{seen.at:%Y-%m-%dT%H:%M:%SZ}",
                "who": who(seen),
                "event": seen.message.name,
                "what": text,
                "assumed": assumed,
                "latency_ms": round(seen.latency_s * 1000, 1),
            }
        )
        source = Source.parse(seen.message.event.source)
        line = Text.assemble(
            (f"{when(seen.at)}  ", "dim"),
            (f"{who(seen):<10}", _STYLES.get(source.kind if source else "", "")),
            (f"{'+' if planned is None else ''}{seen.latency_s * 1000:.0f} ms".rjust(8) + "  ", "dim"),
            text,
            (f"  [assumed: {', '.join(assumed)}]" if assumed else "", "yellow"),
        )
        self._console.print(line, soft_wrap=True)
