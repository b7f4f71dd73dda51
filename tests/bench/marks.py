"""When a process did what, for `where`: marks kept in memory and written when the process ends.

Wall clock, since marks of several processes (and the broker's append times) are put on one line.
"""

import atexit
import json
import os
import time
from pathlib import Path

FOLDER = "QALQAN_BENCH_MARKS"
"""Environment variable: the folder where each process writes its marks; without it nothing is marked."""

_marks: list[tuple[int, str, str]] = []
_on = FOLDER in os.environ


def mark(what: str, key: str) -> None:
    """Notes that `what` happened now for the message of this key."""
    if _on:
        _marks.append((time.time_ns(), what, key))


def read(folder: Path) -> dict[str, dict[str, list[float]]]:
    """All marks of a run: by key, then by what, in ms of the wall clock, in order."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob("*.json")):
        for at_ns, what, key in json.loads(path.read_bytes()):
            found.setdefault(key, {}).setdefault(what, []).append(at_ns / 1e6)
    return found


def _write() -> None:
    Path(os.environ[FOLDER], f"{os.getpid()}.json").write_text(json.dumps(_marks))


if _on:
    atexit.register(_write)
