"""What a decision looks at beside its request: the network, the members, the lane, the chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qalqan.events import BallotClosed
from qalqan.fields import Model
from qalqan.registry import Registry
from qalqan.topics import DECISIONS


@dataclass(frozen=True, slots=True)
class Chain:
    """The head of a partition's chain of certificates.

    Serials have no gap, `previous` is the last one's digest.
    """

    name: str
    serial: int = 0
    previous: str | None = None

    @classmethod
    def of(cls, partition: int, doc: Mapping[str, Any]) -> "Chain":
        """The head as the lane keeps it."""
        return cls(f"{DECISIONS.name}-{partition}", doc.get("serial", 0), doc.get("previous"))

    def after(self, fact: Model) -> "Chain":
        """The head after a fact: a certificate lengthens the chain."""
        if not isinstance(fact, BallotClosed):
            return self
        return Chain(self.name, fact.certificate["serial"], fact.decision_digest)


@dataclass(frozen=True, slots=True)
class Court:
    """Where a ballot is held.

    `now`: log time (for a new ballot: the wall clock, read by the shell). `next_offset`: of the inbox
    partition, the offset being handled or the next one. `governance_offset`: of `governance`, the next to be
    read.
    """

    partition: int
    now: datetime
    next_offset: int
    registry: Registry
    key_id: str
    chain: Chain
    governance_offset: int = 0
