"""The rule of a ballot: what its positions come to.

Rules are data; a kind is a function here (CONTRACT "Rule").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from qalqan.events import Position, RuleRecord

Result = Literal["reached", "blocked", "lapsed"]


class Kind(Protocol):
    """A kind of rule: from the roll and the positions taken to an outcome; None: the ballot stays open."""

    def __call__(self, roll: list[str], positions: Mapping[str, Position], at_deadline: bool) -> Result | None: ...


def consensus(roll: list[str], positions: Mapping[str, Position], at_deadline: bool) -> Result | None:
    """All take part, none objects.

    It closes when every state has a position, or at the deadline; until then an objection stands and may be
    corrected. Consensus is the absence of objection (UN Juridical Yearbook 2005 p. 457); nobody's silence is
    taken for it, so a roll without states is never in consensus.
    """
    everyone = bool(roll) and all(state in positions for state in roll)
    if not everyone and not at_deadline:
        return None
    if any(positions.get(state) == "object" for state in roll):
        return "blocked"
    return "reached" if everyone else "lapsed"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force: which record a new ballot is bound to, and what each kind means."""

    current: RuleRecord
    kinds: Mapping[str, Kind]

    def window(self, severity: str) -> timedelta:
        """How long a ballot is open: shorter where lives are at risk (severity Extreme, as in CAP)."""
        return self.current.window_at_risk if severity == "Extreme" else self.current.window


DEFAULT = Rules(
    RuleRecord(rule_id="consensus-1", kind="consensus", window=timedelta(hours=24), window_at_risk=timedelta(hours=6)),
    {"consensus": consensus},
)
"""CONTRACT: PT24H, PT6H at severity Extreme."""
