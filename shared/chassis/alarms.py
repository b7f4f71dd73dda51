"""The next deadlines of a lane: one for each key, in order of time."""

from collections.abc import Iterator
from datetime import datetime

from sortedcontainers import SortedSet


class Alarms:
    """When something falls due for which key. A key has one alarm or none."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._order: SortedSet = SortedSet()

    def set(self, key: str, at: datetime | None) -> None:
        """Sets, moves or (None) takes away the alarm of a key."""
        before = self._at.pop(key, None)
        if before is not None:
            self._order.discard((before, key))
        if at is not None:
            self._at[key] = at
            self._order.add((at, key))

    def first(self) -> datetime | None:
        """When the next one falls."""
        return self._order[0][0] if self._order else None

    def due(self, until: datetime) -> Iterator[tuple[datetime, str]]:
        """Alarms at or before an instant, the earliest first."""
        for at, key in self._order:
            if at > until:
                return
            yield at, key


class AlarmChanges:
    """What a transaction that does not stand yet would change: the lane's alarms seen through its own."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms
        self._changes: dict[str, datetime | None] = {}

    def set(self, key: str, at: datetime | None) -> None:
        """As `Alarms.set`, until `apply` for this draft alone."""
        self._changes[key] = at

    def next_due(self, until: datetime) -> tuple[datetime, str] | None:
        """The earliest alarm at or before an instant."""
        own = [(at, key) for key, at in self._changes.items() if at is not None and at <= until]
        others = ((at, key) for at, key in self._alarms.due(until) if key not in self._changes)
        return min([*own, *([first] if (first := next(others, None)) else [])], default=None)

    def apply(self) -> None:
        """The transaction stands."""
        for key, at in self._changes.items():
            self._alarms.set(key, at)
