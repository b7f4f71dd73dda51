"""The live timeline: who did what, when in scenario time, and how long it took the system in real time."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from qalqan.replay.player import Seen
from qalqan.sources import Source

_STYLES = {"state": "cyan", "service": "magenta"}


def when(instant: datetime | str | None) -> str:
    """`06 Feb 09:25`, in UTC; `-` for none."""
    if instant is None:
        return "-"
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    return f"{instant:%d %b %H:%M}"


def who(seen: Seen) -> str:
    """The state's code, or the service's name."""
    source = Source.parse(seen.message.event.source)
    return source.name if source else seen.message.event.source


def what(name: str, data: Mapping[str, Any]) -> str:
    """One line about an event, for a person."""
    match name:
        case "RequestRaised":
            return f"raises {data['request_id']}: {data['emergency']['title']}, {len(data['needs'])} needs"
        case "RequestCancelled" | "RequestClosed":
            return f"{'cancels' if name == 'RequestCancelled' else 'closes'} the request: {data['reason']}"
        case "PledgeOffered":
            offer = f"{data['quantity']:,} {data['unit']}, {data.get('text') or data['capability']}"
            return f"offers {data['pledge_id']}: {offer}; ready {when(data['ready_at'])}"
        case "PledgeAccepted":
            return f"accepts {data['quantity']:,} of {data['pledge_id']}"
        case "PledgeDeclined" | "PledgeWithdrawn":
            verb = "declines" if name == "PledgeDeclined" else "withdraws"
            return f"{verb} {data['pledge_id']}: {data['reason']}"
        case "VoteCast":
            why = data.get("reason") or data.get("declaration")
            return f"votes {data['position']}" + (f": {why}" if why else "")
        case "ResourceCommitted" | "ResourceDeparted" | "ResourceArrived" | "ResourceReleased":
            place = data.get("place") or {}
            at = f", {place['name']}" if place.get("name") else ""
            return f"{name.removeprefix('Resource').lower()}: {data['quantity']:,} of {data['pledge_id']}{at}"
        case "BallotOpened":
            ballot = data["ballot"]
            return f"opens the ballot on {', '.join(ballot['items'])}: {' '.join(ballot['roll'])}"
        case "ConsensusReached" | "ConsensusBlocked" | "BallotLapsed" | "BallotSuperseded" | "BallotWithdrawn":
            tally = ", ".join(f"{state} {position}" for state, position in sorted(data["tally"].items()))
            return f"{_spaced(name)} ({tally})"
        case "MobilizationAuthorized" | "MobilizationRevised":
            needs = sum(1 for need in data["coverage"] if need["covered"] >= need["requested"])
            covered = f"{len(data['lines'])} lines, {needs} of {len(data['coverage'])} needs covered in full"
            return f"{_spaced(name)} (revision {data['revision']}): {covered}"
        case "SubmissionRejected":
            return f"rejects it: {data['reason']} ({data['detail']})"
        case _:
            return _spaced(name)


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


def _spaced(name: str) -> str:
    """`ConsensusReached` -> `consensus reached`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
