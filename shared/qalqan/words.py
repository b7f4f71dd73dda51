"""Events in a few words, for a person."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_HARMFUL: Final = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
"""Unicode's categories of what is not shown but obeyed: control and format characters (escape sequences, marks that
turn the direction of writing), line separators, and what has no meaning."""


def what(name: str, data: Mapping[str, Any]) -> str:
    """One line about an event, for a person. Its texts are as the writer had them: see `harmless`.

    KeyError, TypeError, ValueError, AttributeError: the data are not of this event.
    """
    match name:
        case "RequestAnticipated":
            return f"expects to ask for help: {data['emergency']['title']}"
        case "RequestRaised" | "RequestAmended":
            verb = "raises" if name == "RequestRaised" else "amends"
            return f"{verb} {data['request_id']}: {data['emergency']['title']}, {len(data['needs'])} needs"
        case "RequestCancelled" | "RequestClosed":
            return f"{'cancels' if name == 'RequestCancelled' else 'closes'} the request: {data['reason']}"
        case "PledgeOffered" | "PledgeRevised":
            verb = "offers" if name == "PledgeOffered" else f"revises (revision {data['revision']})"
            offer = f"{data['quantity']:,} {data['unit']}, {data.get('text') or data['capability']}"
            return f"{verb} {data['pledge_id']}: {offer}; ready {when(data['ready_at'])}"
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
            return f"{spaced(name)} ({tally})"
        case "MobilizationAuthorized" | "MobilizationRevised":
            needs = sum(1 for need in data["coverage"] if need["covered"] >= need["requested"])
            covered = f"{len(data['lines'])} lines, {needs} of {len(data['coverage'])} needs covered in full"
            return f"{spaced(name)} (revision {data['revision']}): {covered}"
        case "SubmissionRejected":
            return f"rejects it: {data['reason']} ({data['detail']})"
        case "MemberRegistered":
            return f"registers {data['state']} as {data['status']}"
        case "KeyRegistered":
            return f"registers a key of {data['source'].rpartition('/')[2]}: {', '.join(data['scopes']) or 'no scopes'}"
        case "KeyRevoked":
            return f"revokes the key {data['key_id'][:12]}: {data['reason']}"
        case _:
            return spaced(name)


def when(instant: datetime | str | None) -> str:
    """`06 Feb 09:25`, in UTC; `-` for none."""
    if instant is None:
        return "-"
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    return f"{instant:%d %b %H:%M}"


def spaced(name: str) -> str:
    """`ConsensusReached` -> `consensus reached`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def harmless(text: str, limit: int = 400) -> str:
    """A stranger's text for a terminal: on one line, nothing in it that a terminal would obey, not long.

    What would be obeyed is shown as U+FFFD, spaces of every kind as one.
    """
    text = " ".join(text[: 4 * limit].split())
    text = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) in _HARMFUL else each for each in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
