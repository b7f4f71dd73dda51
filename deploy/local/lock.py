"""One runner for each home: a lock that the kernel lets go of whatever happens to its holder."""

import fcntl
import os
from pathlib import Path
from typing import Self

from deploy.local.errors import CannotStart


class HomeLock:
    """Held from start to stop. Raises CannotStart when another runner holds it."""

    def __init__(self, home: Path) -> None:
        self._path = home / "runner.lock"
        self._file: int | None = None

    def __enter__(self) -> Self:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise CannotStart(
                f"Qalqan runs already in {self._path.parent} (process {holder(self._path.parent)}): "
                "see `qalqan status`, stop it with `qalqan down`, or give this one another --home."
            ) from None
        os.truncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def holder(home: Path) -> int | None:
    """The process id of the runner of this home; None when none runs."""
    path = home / "runner.lock"
    if not path.exists():
        return None
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(file, 20, 0) or b"0") or None
    finally:
        os.close(file)
    return None
