"""The seam for allocation: what an allocator is given, and what it must give back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Demand:
    """What a need still lacks; `priority` 1 is first."""

    need_id: str
    priority: int
    quantity: int
    needed_by: datetime | None


@dataclass(frozen=True, slots=True)
class Supply:
    """What of a pledge is accepted and free, and when it would be at each need it may go to (None: unknown).

    `whole`: not divisible, so it goes to one need only. `bilateral`: it comes in any case, whatever the plan.
    """

    pledge_id: str
    quantity: int
    arrivals: Mapping[str, datetime | None]
    whole: bool = False
    bilateral: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A quantity of a pledge for a need, and why, in words for a person."""

    pledge_id: str
    need_id: str
    quantity: int
    reason: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """The shares, at most one for each pledge and need; `optimality_gap` None: unproven, whatever it is."""

    shares: Sequence[Share]
    optimality_gap: float | None


class Allocator(Protocol):
    """Distributes what was accepted over what is needed.

    Must be a pure function: before the mobilisation the plan kept ready is derived again in every rebuild.
    Never more of a supply than its quantity, never more for a demand than it lacks, only where `arrivals` has
    the need.
    """

    def allocate(self, demands: Sequence[Demand], supplies: Sequence[Supply]) -> Allocation:
        """The allocation; `demands` in the order of the request, `supplies` in the order of their offers."""
        ...
