"""The next deadlines of a lane: one for each key, in order of time."""

import heapq
from collections.abc import Iterator
from datetime import datetime

from sortedcontainers import SortedSet


class Alarms:
    """When something falls due for which key. A key has one alarm or none."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._order: SortedSet[tuple[datetime, str]] = SortedSet()

    def set(self, key: str, at: datetime | None) -> None:
        """Sets, moves or (None) takes away the alarm of a key."""
        before = self._at.pop(key, None)
        if before is not None:
            self._order.discard((before, key))
        if at is not None:
            self._at[key] = at
            self._order.add((at, key))

    def at(self, key: str) -> datetime | None:
        """The alarm of a key."""
        return self._at.get(key)

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
        self._own: list[tuple[datetime, str]] = []

    def set(self, key: str, at: datetime | None) -> None:
        """As `Alarms.set`, until `apply` for this draft alone."""
        self._changes[key] = at
        if at is not None:
            heapq.heappush(self._own, (at, key))

    def at(self, key: str) -> datetime | None:
        """The alarm of a key, as it would be."""
        return self._changes[key] if key in self._changes else self._alarms.at(key)

    def next_due(self, until: datetime) -> tuple[datetime, str] | None:
        """The earliest alarm at or before an instant."""
        while self._own and self._changes[self._own[0][1]] != self._own[0][0]:
            heapq.heappop(self._own)  # moved since
        first = next((alarm for alarm in self._alarms.due(until) if alarm[1] not in self._changes), None)
        if self._own and self._own[0][0] <= until and (first is None or self._own[0] < first):
            return self._own[0]
        return first

    def apply(self) -> None:
        """The transaction stands."""
        for key, at in self._changes.items():
            self._alarms.set(key, at)
