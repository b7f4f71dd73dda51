"""The life of a pledge, as data: who may take which step, in which stage (CONTRACT "Submissions")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from qalqan.events import (
    PledgeAccepted,
    PledgeDeclined,
    PledgeRevised,
    PledgeWithdrawn,
    ResourceArrived,
    ResourceCommitted,
    ResourceDeparted,
    ResourceReleased,
)
from qalqan.fields import Model
from services.pledge.domain.state import ReportKind, Stage

Party = Literal["pledging", "affected"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step: what it does to a pledge in words, whose it is, and the stages in which it is possible.

    `ends_with_request`: no longer possible once the request was cancelled or closed.
    """

    verb: str
    by: frozenset[Party]
    stages: frozenset[Stage]
    ends_with_request: bool = False


@dataclass(frozen=True, slots=True)
class ReportStep(Step):
    """A report: the kind it adds to, and the kind whose sum it may not overtake (beside what is accepted)."""

    kind: ReportKind = "committed"
    follows: ReportKind | None = None


_PLEDGING: Final[frozenset[Party]] = frozenset({"pledging"})
_AFFECTED: Final[frozenset[Party]] = frozenset({"affected"})
_BEFORE_DEPARTURE: Final[frozenset[Stage]] = frozenset({"offered", "accepted", "declined"})
_UNTIL_WITHDRAWN: Final[frozenset[Stage]] = _BEFORE_DEPARTURE | {"underway"}

LIFE: Final[Mapping[type[Model], Step]] = {
    PledgeRevised: Step("be revised", _PLEDGING, _BEFORE_DEPARTURE, ends_with_request=True),
    # Both stay possible after the request was closed: they only take back, and a surplus offer awaits an
    # answer.
    PledgeWithdrawn: Step("be withdrawn", _PLEDGING, _BEFORE_DEPARTURE),
    PledgeDeclined: Step("be declined", _AFFECTED, _BEFORE_DEPARTURE),
    # Also of a declined pledge (the later answer replaces the earlier), and of one underway (to accept more).
    PledgeAccepted: Step("be accepted", _AFFECTED, _UNTIL_WITHDRAWN, ends_with_request=True),
    # Possible in every stage but withdrawn: what was not accepted is refused by quantity, as `over-accepted`.
    ResourceCommitted: ReportStep("be committed", _PLEDGING, _UNTIL_WITHDRAWN, kind="committed"),
    # Not bound to `committed`: the contract does not ask for a go before a departure.
    ResourceDeparted: ReportStep("depart", _PLEDGING, _UNTIL_WITHDRAWN, kind="departed"),
    ResourceArrived: ReportStep("arrive", _PLEDGING | _AFFECTED, _UNTIL_WITHDRAWN, kind="arrived", follows="departed"),
    # Follows the departure, not the arrival: what is turned round on its way is released too.
    ResourceReleased: ReportStep(
        "be released", _PLEDGING | _AFFECTED, _UNTIL_WITHDRAWN, kind="released", follows="departed"
    ),
}
