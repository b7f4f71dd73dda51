"""How far a plan goes: for each need what is covered, what of it in time, what of it bilaterally."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from qalqan.events import Coverage, Need


@dataclass(frozen=True, slots=True)
class Delivery:
    """A quantity on its way to a need, through the mechanism or bilaterally."""

    need_id: str
    quantity: int
    arrives_at: datetime | None
    bilateral: bool


def in_time(need: Need, arrives_at: datetime | None) -> bool:
    """Whether it arrives by `needed_by`; without one everything is in time, an unknown arrival never else."""
    return need.needed_by is None or (arrives_at is not None and arrives_at <= need.needed_by)


def coverage(needs: Iterable[Need], deliveries: Iterable[Delivery]) -> list[Coverage]:
    """The coverage of each need, in the request's order; `covered` and `on_time` include the bilateral."""
    by_need: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_need.setdefault(delivery.need_id, []).append(delivery)
    result = []
    for need in needs:
        coming = by_need.get(need.need_id, [])
        result.append(
            Coverage(
                need_id=need.need_id,
                requested=need.quantity,
                covered=sum(delivery.quantity for delivery in coming),
                on_time=sum(delivery.quantity for delivery in coming if in_time(need, delivery.arrives_at)),
                bilateral=sum(delivery.quantity for delivery in coming if delivery.bilateral),
            )
        )
    return result
