"""What a check finds."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["well", "look", "wrong"]
"""`look`: nothing is wrong yet, or it cannot be told."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, what was seen, and what to do about it."""

    what: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def well(what: str, seen: str) -> Finding:
    """Nothing to do."""
    return Finding(what, "well", seen)


def look(what: str, seen: str, remedy: str) -> Finding:
    """Somebody should look at it; the system works."""
    return Finding(what, "look", seen, remedy)


def wrong(what: str, seen: str, remedy: str) -> Finding:
    """The system does not do what it should, or soon will not."""
    return Finding(what, "wrong", seen, remedy)
