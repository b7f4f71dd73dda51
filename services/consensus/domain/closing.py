"""How a ballot closes: the tally, the certificate, the event (CONTRACT "What services state")."""

from datetime import datetime
from typing import Any

from chassis.facts import Fact
from qalqan import jsontext
from qalqan.certificate import Outcome
from qalqan.events import (
    BallotClosed,
    BallotLapsed,
    BallotSuperseded,
    BallotWithdrawn,
    ConsensusBlocked,
    ConsensusReached,
    Objection,
    Position,
    StructuredEvent,
)
from qalqan.instants import format_instant
from qalqan.registry import Registry
from qalqan.sources import secretariat_source
from qalqan.topics import INBOX_VOTES
from services.consensus.domain.court import Court
from services.consensus.domain.state import Ballot, State

EVENT_OF: dict[Outcome, type[BallotClosed]] = {
    "reached": ConsensusReached,
    "blocked": ConsensusBlocked,
    "lapsed": BallotLapsed,
    "superseded": BallotSuperseded,
    "withdrawn": BallotWithdrawn,
}
OUTCOME_OF: dict[type[BallotClosed], Outcome] = {event: outcome for outcome, event in EVENT_OF.items()}


def positions(state: State, ballot: Ballot) -> dict[str, Position]:
    """Each state's position: its vote, or, for the affected state, its signed request."""
    taken: dict[str, Position] = {name: vote.position for name, vote in ballot.votes.items()}
    if state.affected_state in ballot.record.roll:
        taken.setdefault(state.affected_state, "approve")
    return taken


def close(
    state: State,
    ballot: Ballot,
    outcome: Outcome,
    decided_at: datetime,
    last_offset: int,
    court: Court,
    cause: tuple[StructuredEvent, str] | None = None,
) -> Fact:
    """The closing event with its certificate.

    `last_offset`: the last record of the inbox that was handled before. `cause`: the event that ended the
    ballot from outside, and its key's id.
    """
    taken = positions(state, ballot)
    request = state.voted_on(ballot)
    roll = ballot.record.roll
    certificate = jsontext.Settled(
        {
            "version": 1,
            "ballot": ballot.record.text,
            "outcome": outcome,
            "decided_at": format_instant(decided_at),
            "request": request.event,
            "request_recorded_at": format_instant(request.recorded_at),
            "counted": [_counted(state, ballot, name) for name in roll if name in taken],
            "cause": cause[0] if cause else None,
            "inbox": {
                "topic": INBOX_VOTES.name,
                "partition": court.partition,
                "from": ballot.inbox_from,
                "to": max(last_offset, ballot.inbox_from - 1),
            },
            "keys": _keys(state, ballot, court, cause),
            "members": _members(ballot, court.registry),
            "chain": court.chain.name,
            "serial": court.chain.serial + 1,
            "previous": court.chain.previous,
        }
    )
    return Fact(
        EVENT_OF[outcome](
            request_id=state.request_id,
            ballot_id=ballot.ballot_id,
            revision=ballot.record.revision,
            round=ballot.record.round,
            mode=state.mode,
            tally={name: taken[name] for name in roll if name in taken},
            absent=[name for name in roll if name not in taken],
            blocked_by=[
                Objection(state=name, reason=vote.reason or "")
                for name, vote in sorted(ballot.votes.items())
                if vote.position == "object"
            ],
            decided_at=decided_at,
            decision_digest=jsontext.digest_of(certificate),
            certificate=certificate,
        )
    )


def _counted(state: State, ballot: Ballot, name: str) -> dict[str, Any]:
    vote = ballot.votes.get(name)
    if vote is None:
        recorded_at = format_instant(state.voted_on(ballot).recorded_at)
        return {"state": name, "position": "approve", "by": "request", "recorded_at": recorded_at}
    return {
        "state": name,
        "position": vote.position,
        "by": "vote",
        "recorded_at": format_instant(vote.recorded_at),
        "event": vote.event,
    }


def _keys(
    state: State, ballot: Ballot, court: Court, cause: tuple[StructuredEvent, str] | None
) -> list[dict[str, Any]]:
    """The registrations of every key used, in the order they were registered."""
    used = {state.voted_on(ballot).key_id, court.key_id, *(vote.key_id for vote in ballot.votes.values())}
    if cause is not None:
        used.add(cause[1])
    authority = secretariat_source(court.registry.network)
    registered = court.registry.keys()
    return [key.registration for key in registered if key.key_id in used or key.source == authority]


def _members(ballot: Ballot, registry: Registry) -> list[dict[str, Any]]:
    """The registrations of the roll as they stood when the ballot opened."""
    registered = (registry.member(name, before=ballot.record.members_offset) for name in ballot.record.roll)
    return [member.registration for member in registered if member is not None]
