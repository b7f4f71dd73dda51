"""The rules of decision, once more: not the consensus service's code, so that a fault of either shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What positions come to; `settled`: before the deadline, by the last position that was needed."""

    outcome: Literal["reached", "blocked", "lapsed"]
    settled: bool


Rule = Callable[[Sequence[str], Mapping[str, str]], Verdict]
"""From the roll and the position of each state that has one."""


def consensus(roll: Sequence[str], positions: Mapping[str, str]) -> Verdict:
    """CONTRACT "Rule `consensus`": an objection blocks; else reached if all have a position; else lapsed."""
    complete = bool(roll) and all(state in positions for state in roll)  # nobody is no consensus
    if any(positions.get(state) == "object" for state in roll):
        return Verdict("blocked", complete)
    return Verdict("reached" if complete else "lapsed", complete)


RULES: Final[dict[str, Rule]] = {"consensus": consensus}
"""By the rule record's `kind`; the seam for others."""
