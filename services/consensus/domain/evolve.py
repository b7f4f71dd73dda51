"""The state after a fact: the only place where it changes, in the line and in a rebuild alike."""

from collections.abc import Mapping
from dataclasses import replace

from chassis.facts import Fact
from qalqan import jsontext
from qalqan.envelope import Event, to_structured
from qalqan.events import (
    BallotClosed,
    BallotOpened,
    MandateEnded,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestContent,
    RequestRaised,
    StructuredEvent,
    VoteCast,
)
from qalqan.signing import read_material
from services.consensus.domain.closing import OUTCOME_OF
from services.consensus.domain.state import Ballot, SignedRequest, State, Vote


def evolve(state: State | None, fact: Fact) -> State:
    """The state after a fact of `requests`, `votes` or `decisions`."""
    data = fact.data
    if isinstance(data, RequestAnticipated | RequestRaised):
        return _begun(state, fact, data)
    assert state is not None, f"{type(data).__name__} of a request that nobody raised"
    match data:
        case RequestAmended():
            return _with_revision(state, fact, data, data.revision)
        case RequestCancelled():
            return state.model_copy(update={"status": "cancelled"})
        case RequestClosed():
            return state.model_copy(update={"status": "closed"})
        case BallotOpened():
            ballot = Ballot(ballot_id=data.ballot_id, record=data.ballot, inbox_from=data.inbox_from)
            former = {one.ballot_id: one for one in state.ballots}
            return state.model_copy(update={"ballot": ballot, "former": former})
        case VoteCast():
            return _with_vote(state, fact, data)
        case BallotClosed():
            outcome = OUTCOME_OF[type(data)]
            # What ends a ballot from outside leaves a mandate as it is: a request's end has a MandateEnded of its own.
            mandate = state.decided if outcome in ("superseded", "withdrawn") else outcome == "reached"
            closed = {"outcome": outcome, "decided_at": data.decided_at, "decision_digest": data.decision_digest}
            return _with_ballot(state, closed, decided=mandate)
        case MandateEnded():
            return state.model_copy(update={"decided": False})
    raise AssertionError(f"{type(data).__name__} is no fact of the consensus service")


def _begun(state: State | None, fact: Fact, data: RequestAnticipated | RequestRaised) -> State:
    if state is not None and (isinstance(data, RequestAnticipated) or state.revisions):
        return state  # a request is raised once; the same word under another place changes nothing
    begun = State(request_id=data.request_id, affected_state=data.affected_state, mode=data.mode, status="anticipated")
    if isinstance(data, RequestAnticipated):
        return begun
    return _with_revision(begun.model_copy(update={"status": "open"}), fact, data, 1)


def _with_revision(state: State, fact: Fact, data: RequestContent, revision: int) -> State:
    event = _signed(fact)
    assert fact.recorded_at is not None
    signed = SignedRequest(
        revision=revision,
        recorded_at=fact.recorded_at,
        digest=jsontext.digest(event.data),
        key_id=read_material(event).key_id,
        severity=data.emergency.severity,
        items=[need.need_id for need in data.needs],
        event=signed_form(event),
    )
    return state.model_copy(update={"revisions": {**state.revisions, revision: signed}})


def _with_vote(state: State, fact: Fact, data: VoteCast) -> State:
    event = _signed(fact)
    assert state.ballot is not None
    assert fact.recorded_at is not None
    vote = Vote(
        state=data.state,
        sequence=data.sequence,
        position=data.position,
        reason=data.reason,
        recorded_at=fact.recorded_at,
        key_id=read_material(event).key_id,
        event=signed_form(event),
    )
    return _with_ballot(state, {"votes": {**state.ballot.votes, data.state: vote}}, state.decided)


def _with_ballot(state: State, update: Mapping[str, object], decided: bool) -> State:
    assert state.ballot is not None
    ballot = state.ballot.model_copy(update=update)
    return state.model_copy(update={"ballot": ballot, "decided": decided})


def signed_form(event: Event) -> StructuredEvent:
    """An event as signed: without extensions, which no signature covers and which differ between topics."""
    return to_structured(replace(event, extensions={}))


def _signed(fact: Fact) -> Event:
    assert fact.event is not None, f"{type(fact.data).__name__} is somebody's signed word"
    return fact.event
