"""Whether there is room for a broker's or a database's data."""

import shutil
from pathlib import Path

from deploy.local.errors import DISK_FULL

ROOM_BYTES = 16 * 1024 * 1024
"""The next segment of the database's log: with less it will soon take nothing any more."""


def no_room(data: Path) -> str | None:
    """What is to be said of data on a disk that is full; None: there is room, or no such data."""
    if not data.is_dir():
        return None
    left = shutil.disk_usage(data).free
    return None if left >= ROOM_BYTES else f"{DISK_FULL} ({left >> 10} KiB left)"
