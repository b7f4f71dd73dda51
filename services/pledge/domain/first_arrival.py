"""The default allocator: by priority, then earliest arrival; equals cover as much as can be covered."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.pledge.domain.allocator import Allocation, Demand, Share, Supply

_UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""An arrival that nobody knows comes after all others."""


class FirstArrival:
    """Serves needs by priority, each priority from the pledges that arrive first.

    A pledge counts with its earliest arrival. At equal arrival what comes bilaterally goes first (it comes in
    any case), then what is not divisible (it cannot make room later), then the earlier offer. Where a pledge
    finds its needs served it takes the place of another that can serve elsewhere, as long as no earlier
    priority and no earlier arrival loses by it. These augmenting paths make the result exact for divisible
    pledges whenever the needs are of one priority or the pledges of one arrival (a matroid's greedy, Edmonds
    1971). Beyond that, and for what is not divisible, it is a good plan, not proved the best:
    `optimality_gap` is None.
    """

    def allocate(self, demands: Sequence[Demand], supplies: Sequence[Supply]) -> Allocation:
        """As `Allocator.allocate`."""
        table = _Table(
            {demand.need_id: demand.quantity for demand in demands},
            {supply.pledge_id: supply for supply in supplies},
        )
        by_arrival = sorted(
            supplies, key=lambda s: (table.times[s.pledge_id], not s.bilateral, not s.whole)
        )  # stable: then the earlier offer
        by_urgency = sorted(demands, key=lambda d: (d.priority, d.needed_by or _UNKNOWN))
        for priority in sorted({demand.priority for demand in demands}):
            table.open_level([demand.need_id for demand in by_urgency if demand.priority == priority])
            for supply in by_arrival:
                if not table.lacks():
                    break
                table.place(supply)
        priorities = {demand.need_id: demand.priority for demand in demands}
        return Allocation(
            [
                Share(
                    pledge_id,
                    need_id,
                    quantity,
                    f"Among the first to arrive for what is asked with priority {priorities[need_id]}",
                )
                for need_id, serving in table.serving.items()
                for pledge_id, quantity in serving.items()
            ],
            optimality_gap=None,
        )


@dataclass(slots=True)
class _Path:
    """A chain: the first pledge takes the second's place at a need ... the last goes to a need that lacks."""

    hops: list[tuple[str, str]]
    """(pledge, the need it goes to), first pledge first."""
    quantity: int


@dataclass(slots=True)
class _Table:
    """Who serves what, while it is worked out."""

    lacking: dict[str, int]
    supplies: dict[str, Supply]
    serving: dict[str, dict[str, int]] = field(init=False)
    free: dict[str, int] = field(init=False)
    times: dict[str, datetime] = field(init=False)
    options: dict[str, list[str]] = field(init=False)
    """Of each pledge, the needs of the levels opened so far, the present level's first."""
    level: set[str] = field(init=False)
    exhausted: set[tuple[str, datetime | None]] = field(init=False)
    """Needs from which a search found no way: no later path of this level passes there, so none opens."""

    def __post_init__(self) -> None:
        self.serving = {need_id: {} for need_id in self.lacking}
        self.free = {pledge_id: supply.quantity for pledge_id, supply in self.supplies.items()}
        self.times = {
            pledge_id: min((at or _UNKNOWN for at in supply.arrivals.values()), default=_UNKNOWN)
            for pledge_id, supply in self.supplies.items()
        }
        self.options = {pledge_id: [] for pledge_id in self.supplies}
        self.level = set()
        self.exhausted = set()

    def open_level(self, need_ids: Sequence[str]) -> None:
        """Goes on to the needs of the next priority, the most urgent first."""
        self.level = set(need_ids)
        self.exhausted = set()
        for pledge_id, supply in self.supplies.items():
            of_level = [need_id for need_id in need_ids if need_id in supply.arrivals]
            self.options[pledge_id] = of_level + self.options[pledge_id]

    def lacks(self) -> bool:
        """Whether a need of the level lacks anything."""
        return any(self.lacking[need_id] for need_id in self.level)

    def place(self, supply: Supply) -> None:
        """Puts as much of a pledge as can be put on the level's needs."""
        if not supply.whole:
            self._place_on(supply.pledge_id, self.options[supply.pledge_id])
        elif self.free[supply.pledge_id] == supply.quantity:
            # To one need only: the one that lacks most, so that the least of the pledge is left over.
            choice = [need_id for need_id in self.options[supply.pledge_id] if need_id in self.level]
            for need_id in sorted(choice, key=lambda need_id: -self.lacking[need_id]):
                if self._place_on(supply.pledge_id, [need_id]):
                    return

    def _place_on(self, pledge_id: str, options: Sequence[str]) -> bool:
        placed = False
        while self.free[pledge_id]:
            path = self._search(pledge_id, options)
            if path is None:
                break
            self._follow(path)
            placed = True
        return placed

    def _search(self, pledge_id: str, options: Sequence[str]) -> _Path | None:
        """The shortest chain of places that ends at a need of the level that lacks something.

        A pledge takes another's place at a need of the level, or of an earlier one when both arrive at the
        same time: then every priority keeps what it has from each time of arrival, and the level gains.
        """
        before: dict[str, tuple[str, str]] = {}
        """Of a pledge that makes room: who takes its place, and at which need."""
        seen: set[tuple[str, datetime | None]] = set()
        queue = deque([pledge_id])
        while queue:
            mover = queue.popleft()
            for need_id in options if mover == pledge_id else self.options[mover]:
                in_level = need_id in self.level
                if in_level and self.lacking[need_id]:
                    return self._path(pledge_id, mover, need_id, before)
                time = None if in_level else self.times[mover]
                if (need_id, time) in self.exhausted or (need_id, time) in seen:
                    continue
                seen.add((need_id, time))
                for other in self.serving[need_id]:
                    if other == pledge_id or other in before or self.supplies[other].whole:
                        continue
                    if time is None or self.times[other] == time:
                        before[other] = (mover, need_id)
                        queue.append(other)
        self.exhausted |= seen
        return None

    def _path(self, first: str, last: str, need_id: str, before: dict[str, tuple[str, str]]) -> _Path:
        hops = [(last, need_id)]
        quantity = min(self.free[first], self.lacking[need_id])
        while last != first:
            mover, at = before[last]
            quantity = min(quantity, self.serving[at][last])
            hops.append((mover, at))
            last = mover
        return _Path(hops[::-1], quantity)

    def _follow(self, path: _Path) -> None:
        for (pledge_id, need_id), leaver in zip(path.hops, [*path.hops[1:], None], strict=True):
            serving = self.serving[need_id]
            serving[pledge_id] = serving.get(pledge_id, 0) + path.quantity
            if leaver is not None:
                serving[leaver[0]] -= path.quantity
                if not serving[leaver[0]]:
                    del serving[leaver[0]]
        self.free[path.hops[0][0]] -= path.quantity
        self.lacking[path.hops[-1][1]] -= path.quantity
