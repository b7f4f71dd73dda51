"""What follows from a request, a vote, a deadline (CONTRACT "VoteCast", "What services state")."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from chassis.facts import Fact, Incoming, Refused, forwarded
from qalqan import jsontext
from qalqan.envelope import Event, from_structured
from qalqan.events import (
    BallotOpened,
    BallotRecord,
    MandateEnded,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    VoteCast,
)
from qalqan.instants import format_instant
from qalqan.signing import read_material
from services.consensus.domain.closing import close, positions
from services.consensus.domain.court import Court
from services.consensus.domain.evolve import evolve, signed_form
from services.consensus.domain.rules import Rules
from services.consensus.domain.state import Ballot, State, deadline_of


def decide(state: State | None, incoming: Incoming, court: Court, rules: Rules) -> list[Fact]:
    """The facts that a record brings. For a record of `requests`, `state` has it in already.

    Refused: why not.
    """
    data = incoming.data
    if isinstance(data, VoteCast):
        return _vote(state, incoming, data, court, rules)
    assert state is not None
    if isinstance(data, RequestRaised):
        return _open(state, court, rules) if state.ballot is None else []
    if isinstance(data, RequestAmended):
        return _amend(state, incoming, court, rules)
    if isinstance(data, RequestAnticipated):
        return []
    assert isinstance(data, RequestCancelled | RequestClosed)
    return _end(state, incoming, court)


def due_at(state: State) -> datetime | None:
    """The deadline of the open ballot; a time in the past where an event is owed.

    Owed is what was decided, but lost with the database before it was published: after a rebuild a request may have no
    ballot, or a ballot may be open in which every state has a position. In the line neither is ever left behind.
    """
    if state.status == "open" and state.ballot is None:
        return state.latest.recorded_at
    ballot = state.open_ballot()
    return None if ballot is None else _complete_since(state, ballot) or deadline_of(ballot)


def due(state: State, court: Court, rules: Rules) -> list[Fact]:
    """That time has come: the ballot closes just before the record that brought the time, or what is owed is stated."""
    ballot = state.open_ballot()
    if ballot is None:
        return _open(state, court, rules)
    at = due_at(state)
    assert at is not None
    result = rules.kinds[ballot.record.rule.kind](ballot.record.roll, positions(state, ballot), True)
    assert result is not None, "a deadline always closes"
    return [close(state, ballot, result, at, court.next_offset - 1, court)]


def _complete_since(state: State, ballot: Ballot) -> datetime | None:
    """When the last state took its position; None: not all have."""
    roll = ballot.record.roll
    if len(ballot.votes) < len(roll) - 1 or positions(state, ballot).keys() < set(roll):
        return None
    return max((vote.recorded_at for vote in ballot.votes.values()), default=state.latest.recorded_at)


def _open(state: State, court: Court, rules: Rules) -> list[Fact]:
    """A ballot on the request's newest revision, with the roll, the rule and the deadline frozen in its text."""
    request = state.latest
    record = BallotRecord(
        network=court.registry.network,
        mode=state.mode,
        request_id=state.request_id,
        revision=request.revision,
        request_digest=request.digest,
        round=1,
        items=request.items,
        rule=rules.current,
        roll=court.registry.roll(court.now),
        affected_state=state.affected_state,
        members_offset=court.registry.next_offset,
        governance_offset=court.governance_offset,
        opened_at=court.now,
        deadline=court.now + rules.window(request.severity),
    )
    opened = Fact(
        BallotOpened(
            request_id=state.request_id,
            ballot_id=jsontext.digest_of(record.text),
            ballot=record,
            inbox_from=court.next_offset,
        )
    )
    after = evolve(state, opened)
    # A roll of the affected state alone is decided by its request, so when the broker took that.
    return [opened, *_settle(after, request.recorded_at, court.next_offset - 1, court, rules)]


def _amend(state: State, incoming: Incoming, court: Court, rules: Rules) -> list[Fact]:
    """A ballot on what is asked for now takes the place of one that is open."""
    closing = _end_ballot(state, "superseded", incoming, court)
    for fact in closing:
        state = evolve(state, fact)
        court = replace(court, chain=court.chain.after(fact.data))
    return [*closing, *_open(state, court, rules)]


def _vote(state: State | None, incoming: Incoming, vote: VoteCast, court: Court, rules: Rules) -> list[Fact]:
    _check_vote(state, vote, incoming)
    assert state is not None
    cast = forwarded(incoming)
    after = evolve(state, cast)
    return [replace(cast, after=after), *_settle(after, incoming.recorded_at, incoming.offset, court, rules)]


def _check_vote(state: State | None, vote: VoteCast, incoming: Incoming) -> None:
    ballot = None if state is None else state.ballot
    if state is not None and state.status == "cancelled":
        raise Refused("request-closed", f"request {state.request_id} was cancelled")
    if state is not None and vote.ballot_id in state.former:
        raise Refused("too-late", f"another ballot took the place of {vote.ballot_id}")
    if state is None or ballot is None or ballot.ballot_id != vote.ballot_id:
        raise Refused("unknown-ballot", f"request {vote.request_id} has no ballot {vote.ballot_id}")
    if ballot.record.round != vote.round:
        raise Refused("unknown-ballot", f"the ballot is of round {ballot.record.round}, not {vote.round}")
    if vote.state not in ballot.record.roll:
        raise Refused("not-eligible", f"{vote.state} is not on the roll {', '.join(ballot.record.roll)}")
    if ballot.outcome is not None:
        raise Refused("too-late", f"the ballot is closed: {ballot.outcome}")
    if incoming.recorded_at >= deadline_of(ballot):
        raise Refused("too-late", f"the deadline was {format_instant(deadline_of(ballot))}")
    counted = ballot.votes.get(vote.state)
    if counted is None:
        return
    if vote.sequence == counted.sequence and _said(from_structured(counted.event)) != _said(incoming.event):
        raise Refused("equivocation", f"sequence {vote.sequence} of {vote.state} was another vote")
    if vote.sequence <= counted.sequence:
        raise Refused("stale", f"{vote.state} has voted with sequence {counted.sequence}")


def _said(event: Event) -> dict[str, Any]:
    """The whole data of a vote, fields of later versions too, however it was spelled."""
    return jsontext.parse(event.data)


def _settle(state: State, decided_at: datetime, last_offset: int, court: Court, rules: Rules) -> list[Fact]:
    """Closes the ballot as soon as its rule says so."""
    ballot = state.open_ballot()
    assert ballot is not None
    result = rules.kinds[ballot.record.rule.kind](ballot.record.roll, positions(state, ballot), False)
    return [] if result is None else [close(state, ballot, result, decided_at, last_offset, court)]


def _end(state: State, incoming: Incoming, court: Court) -> list[Fact]:
    """A request is cancelled or closed: its open ballot is withdrawn, and a mandate that is in force ends."""
    ended = _end_ballot(state, "withdrawn", incoming, court)
    if state.decided:
        ended.append(Fact(MandateEnded(request_id=state.request_id, cause=signed_form(incoming.event))))
    return ended


def _end_ballot(
    state: State, outcome: Literal["superseded", "withdrawn"], incoming: Incoming, court: Court
) -> list[Fact]:
    """What the affected state said ends the ballot that is open, if one is."""
    ballot = state.open_ballot()
    if ballot is None:
        return []
    cause = signed_form(incoming.event), read_material(incoming.event).key_id
    return [close(state, ballot, outcome, incoming.recorded_at, court.next_offset - 1, court, cause)]
