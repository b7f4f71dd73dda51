"""What the consensus service knows of a request: its content, its ballot, the votes."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from qalqan.certificate import Outcome
from qalqan.events import BallotRecord, Mode, Position, StructuredEvent
from qalqan.fields import Instant, Model


class Vote(Model):
    """A state's vote that counts, as signed."""

    state: str
    sequence: int
    position: Position
    reason: str | None
    recorded_at: Instant
    key_id: str
    event: StructuredEvent


class Ballot(Model):
    """A ballot and its votes. `inbox_from`: the first offset of the inbox that may hold one."""

    ballot_id: str
    record: BallotRecord
    inbox_from: int
    outcome: Outcome | None = None
    decided_at: Instant | None = None
    decision_digest: str | None = None
    votes: dict[str, Vote] = Field(default_factory=dict)


class SignedRequest(Model):
    """A revision of a request as the affected state signed it: its approval, and what a ballot is about."""

    revision: int
    recorded_at: Instant
    digest: str
    key_id: str
    severity: str
    items: list[str]
    event: StructuredEvent


class State(Model):
    """A request before the members."""

    request_id: str
    affected_state: str
    mode: Mode
    status: Literal["anticipated", "open", "cancelled", "closed"]
    revisions: dict[int, SignedRequest] = Field(default_factory=dict)
    """By revision; none while the request is only anticipated."""
    ballot: Ballot | None = None
    former: dict[str, Ballot] = Field(default_factory=dict)
    """The ballots before this one, all closed, by id."""
    decided: bool = False
    """Whether a mandate is in force: consensus was reached, no ballot on an amendment failed since, and the request was
    neither cancelled nor closed."""

    @property
    def ballots(self) -> list[Ballot]:
        """All of them, the newest last."""
        return [*self.former.values(), *([self.ballot] if self.ballot else [])]

    @property
    def latest(self) -> SignedRequest:
        """The newest revision."""
        return self.revisions[max(self.revisions)]

    def voted_on(self, ballot: Ballot) -> SignedRequest:
        """The revision that a ballot is about."""
        return self.revisions[ballot.record.revision]

    def open_ballot(self) -> Ballot | None:
        """The ballot that takes votes."""
        return self.ballot if self.ballot is not None and self.ballot.outcome is None else None


def deadline_of(ballot: Ballot) -> datetime:
    """When the ballot closes at the latest."""
    return ballot.record.deadline
