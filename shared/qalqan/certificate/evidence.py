"""A certificate held against what it brings along: ballot, roll, request, votes, outcome, place."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from qalqan import jsontext
from qalqan.certificate.record import Certificate, Counted
from qalqan.certificate.registrations import Registrations
from qalqan.certificate.rules import RULES
from qalqan.complaints import complaints, shown
from qalqan.envelope import BadEnvelope, Event, from_structured
from qalqan.events import MemberRegistered, Mode, Severity, VoteCast, type_of
from qalqan.fields import Identifier, Instant, Model, RequestId, Revision, State
from qalqan.instants import format_instant
from qalqan.registry import Root
from qalqan.sources import service_source, state_source
from qalqan.topics import DECISIONS, INBOX_VOTES, partition_of

_RAISED, _AMENDED, _VOTE = (type_of(name) for name in ("RequestRaised", "RequestAmended", "VoteCast"))

CAUSES: Final = {
    "superseded": {_AMENDED},
    "withdrawn": {type_of("RequestCancelled"), type_of("RequestClosed")},
}
"""The outcomes that a state brings about, and the types of event that do."""


def consensus_source(network: str) -> str:
    """Who closes ballots."""
    return service_source(network, "consensus")


class _NeedId(Model):
    need_id: Identifier


class _SeverityOf(Model):
    severity: Severity


class _Request(Model):
    """What a decision rests on of a RequestRaised or RequestAmended. No more: catalogues grow."""

    request_id: RequestId
    affected_state: State
    mode: Mode
    emergency: _SeverityOf
    needs: Annotated[list[_NeedId], Field(min_length=1)]
    revision: Revision = 1


class _Cause(Model):
    request_id: RequestId
    revision: Revision = 1


_M = TypeVar("_M", bound=Model)


class _Read(NamedTuple, Generic[_M]):
    """A submission as far as it can be read, and what is wrong with it."""

    faults: list[str]
    event: Event | None = None
    data: _M | None = None


class Evidence:
    """A well-formed certificate and its registrations. `raw`: the certificate as plain JSON, as received."""

    def __init__(self, raw: dict[str, Any], certificate: Certificate, root: Root, registrations: Registrations) -> None:
        self._certificate = certificate
        self._ballot = certificate.ballot
        self._ballot_id = jsontext.digest_of(raw["ballot"])
        self._network = root.network
        self._registrations = registrations
        self._roll = frozenset(certificate.ballot.roll)
        self._positions: dict[str, Counted] = {}
        """The first entry of each state on the roll."""

    def faults(self) -> Iterator[str]:
        """All that is wrong, each a sentence."""
        yield from _in("ballot", self._wrong_ballot())
        yield from _in("ballot", self._wrong_roll())
        yield from _in("request", self._wrong_request())
        for number, entry in enumerate(self._certificate.counted):
            yield from _in(f"counted[{number}] ({entry.state})", self._wrong_entry(entry))
        yield from self._wrong_outcome()
        yield from _in("cause", self._wrong_cause())
        yield from self._wrong_place()
        issuer = consensus_source(self._network)
        if not self._registrations.has_key_of(issuer):
            yield f"keys: there is none of the issuer, {issuer}"

    def _wrong_ballot(self) -> Iterator[str]:
        ballot = self._ballot
        if ballot.network != self._network:
            yield f"of network {shown(ballot.network)}, not of {self._network}"
        if ballot.request_id.partition("-")[0] != ballot.affected_state:
            yield f"request {ballot.request_id} is not one of {ballot.affected_state}"
        if ballot.round < 1:
            yield f"round {ballot.round}; rounds begin with 1"
        if not ballot.items or len(set(ballot.items)) != len(ballot.items):
            yield "items are missing, or one stands twice"
        if ballot.members_offset < 0 or ballot.governance_offset < 0:
            yield "an offset is negative"
        if ballot.rule.kind not in RULES:
            yield f"a rule of kind {shown(ballot.rule.kind)}, which is not known here"

    def _wrong_roll(self) -> Iterator[str]:
        """Sorted, each state a member when the ballot opened, and no member that is known here left out."""
        ballot = self._ballot
        if not ballot.roll:
            yield "the roll is empty"
        if ballot.roll != sorted(self._roll):
            yield "the roll is not sorted, or a state stands twice"
        for state in sorted(self._roll):
            member = self._registrations.member(state)
            if member is None:
                yield f"{state} is on the roll, and there is no MemberRegistered of it that holds"
            elif not _stood(member, ballot.opened_at):
                yield f"{state} is on the roll, and was no member at {format_instant(ballot.opened_at)}"
        for member in self._registrations.members():
            if member.serial > ballot.members_offset:
                yield f"{member.state} was registered after members_offset {ballot.members_offset}"
            if member.state not in self._roll and _stood(member, ballot.opened_at):
                yield f"{member.state} was a member, and is not on the roll"

    def _wrong_request(self) -> Iterator[str]:
        certificate, ballot = self._certificate, self._ballot
        read = self._read(
            certificate.request,
            {_RAISED, _AMENDED},
            _Request,
            (ballot.affected_state, "request", certificate.request_recorded_at),
        )
        yield from read.faults
        if read.event is not None and jsontext.digest(read.event.data) != ballot.request_digest:
            yield "its digest is not the ballot's request_digest"
        if certificate.request_recorded_at >= ballot.deadline:
            yield "recorded after the deadline of its ballot"
        if read.event is None or read.data is None:
            return
        request = read.data
        for name, of_request, of_ballot in (
            ("request_id", request.request_id, ballot.request_id),
            ("affected_state", request.affected_state, ballot.affected_state),
            ("mode", request.mode, ballot.mode),
            ("revision", request.revision if read.event.type == _AMENDED else 1, ballot.revision),
        ):
            if of_request != of_ballot:
                yield f"{name} {of_request}, and {of_ballot} on the ballot"
        unknown = set(ballot.items) - {need.need_id for need in request.needs}
        if unknown:
            yield f"no needs of it, but items of the ballot: {', '.join(sorted(unknown))}"
        window = ballot.rule.window_at_risk if request.emergency.severity == "Extreme" else ballot.rule.window
        try:
            deadline = ballot.opened_at + window
        except OverflowError:
            yield "the window of its ballot ends beyond all calendars"
            return
        if deadline != ballot.deadline:
            yield (
                f"the ballot's deadline is {format_instant(ballot.deadline)}; "
                f"by severity and rule it should be {format_instant(deadline)}"
            )

    def _wrong_entry(self, entry: Counted) -> Iterator[str]:
        if entry.state not in self._roll:
            yield "is not on the roll"
        elif entry.state in self._positions:
            yield "stands twice"
        else:
            self._positions[entry.state] = entry
        yield from self._wrong_vote(entry) if entry.by == "vote" else self._wrong_approval(entry)

    def _wrong_approval(self, entry: Counted) -> Iterator[str]:
        """The affected state's position by its signed request."""
        if entry.state != self._ballot.affected_state:
            yield "is counted by the request, which is another state's"
        if entry.position != "approve":
            yield f"has the position {entry.position} by the request, which can only approve"
        if entry.recorded_at != self._certificate.request_recorded_at:
            yield "recorded_at is not the request's"
        if entry.event is not None:
            yield "is counted by the request, and brings an event"

    def _wrong_vote(self, entry: Counted) -> Iterator[str]:
        ballot = self._ballot
        if entry.recorded_at >= ballot.deadline:
            yield f"recorded at {format_instant(entry.recorded_at)}, not before the deadline"
        if entry.event is None:
            yield "is counted by a vote, and there is none"
            return
        read = self._read(entry.event, {_VOTE}, VoteCast, (entry.state, "vote", entry.recorded_at))
        yield from read.faults
        if read.data is None:
            return
        vote = read.data
        for name, of_vote, wanted in (
            ("request_id", vote.request_id, ballot.request_id),
            ("ballot_id", vote.ballot_id, self._ballot_id),
            ("round", vote.round, ballot.round),
            ("state", vote.state, entry.state),
            ("position", vote.position, entry.position),
        ):
            if of_vote != wanted:
                yield f"the vote's {name} is {of_vote}, not {wanted}"

    def _wrong_outcome(self) -> Iterator[str]:
        certificate, ballot = self._certificate, self._ballot
        rule = RULES.get(ballot.rule.kind)
        if rule is None:
            return
        positions: dict[str, str] = {state: entry.position for state, entry in self._positions.items()}
        if ballot.affected_state in self._roll and ballot.affected_state not in positions:
            yield f"counted: {ballot.affected_state} is missing, whose request is its approval"
            positions[ballot.affected_state] = "approve"
        verdict = rule(ballot.roll, positions)
        if certificate.outcome in CAUSES:
            if verdict.settled:  # and so closed before anything could supersede or withdraw it
                yield f"outcome: {certificate.outcome}, and every position was there: {verdict.outcome}"
            return
        if certificate.outcome != verdict.outcome:
            yield f"outcome: {certificate.outcome}; by the rule it is {verdict.outcome}"
        decided_at = self._settled_at() if verdict.settled else ballot.deadline
        if certificate.decided_at != decided_at:
            what = "the last position needed was recorded" if verdict.settled else "the deadline was"
            stated = format_instant(certificate.decided_at)
            yield f"decided_at: {stated}; {what} at {format_instant(decided_at)}"

    def _settled_at(self) -> Instant:
        """When the record that settled it was taken.

        No correction is later: the ballot closes with the last state's first vote, which is counted. The
        request is left out where there are votes: its time is of another partition, and may run ahead.
        """
        votes = [entry.recorded_at for entry in self._positions.values() if entry.by == "vote"]
        return max(votes, default=self._certificate.request_recorded_at)

    def _wrong_cause(self) -> Iterator[str]:
        certificate, ballot = self._certificate, self._ballot
        types = CAUSES.get(certificate.outcome)
        if types is None or certificate.cause is None:
            if (types is None) != (certificate.cause is None):
                yield f"{'missing' if types else 'there is one'}, and the outcome is {certificate.outcome}"
            return
        read = self._read(certificate.cause, types, _Cause, (ballot.affected_state, "request", certificate.decided_at))
        yield from read.faults
        if read.event is None or read.data is None:
            return
        if read.data.request_id != ballot.request_id:
            yield f"request_id {read.data.request_id}, and {ballot.request_id} on the ballot"
        if read.event.type == _AMENDED and read.data.revision <= ballot.revision:
            yield f"revision {read.data.revision} amends nothing after revision {ballot.revision}"

    def _wrong_place(self) -> Iterator[str]:
        """The range of the inbox, and the place in the chain."""
        certificate, inbox = self._certificate, self._certificate.inbox
        partition = partition_of(self._ballot.request_id)
        if inbox.topic != INBOX_VOTES.name:
            yield f"inbox: topic {shown(inbox.topic)}, not {INBOX_VOTES.name}"
        if inbox.partition != partition:
            yield f"inbox: partition {inbox.partition}; the request belongs to {partition}"
        length = inbox.to - inbox.from_ + 1
        votes = sum(entry.by == "vote" for entry in certificate.counted)
        if length < 0:
            yield f"inbox: from {inbox.from_} to {inbox.to} is no range"
        elif length < votes:
            yield f"inbox: {length} records from {inbox.from_} to {inbox.to}, and {votes} votes counted"
        if certificate.chain != f"{DECISIONS.name}-{partition}":
            yield f"chain: {shown(certificate.chain)}, not {DECISIONS.name}-{partition}"
        if (certificate.serial == 1) != (certificate.previous is None):
            previous = certificate.previous or "null"
            yield f"previous: {previous} at serial {certificate.serial}; the first alone has none"

    def _read(self, raw: dict[str, Any], types: set[str], model: type[_M], by: tuple[str, str, Instant]) -> _Read[_M]:
        """A submission about this request; `by`: whose, with which scope, by a key that was valid when."""
        state, scope, at = by
        try:
            event = from_structured(raw)
        except BadEnvelope as error:
            return _Read([str(error)])
        if event.type not in types:
            return _Read([f"is a {shown(event.type)}, not a {' or '.join(sorted(types))}"])
        faults = []
        if event.subject != self._ballot.request_id:
            faults.append(f"subject {shown(event.subject or '')}, not {self._ballot.request_id}")
        doubt = self._registrations.doubt(event, state_source(self._network, state), scope, at)
        if doubt:
            faults.append(doubt)
        try:
            return _Read(faults, event, model.model_validate(jsontext.parse(event.data)))
        except ValidationError as error:
            faults += complaints(error, "data")
        except ValueError as error:
            faults.append(f"data: {error}")
        return _Read(faults, event)


def _in(where: str, faults: Iterator[str]) -> Iterator[str]:
    return (f"{where}: {fault}" for fault in faults)


def _stood(member: MemberRegistered, instant: Instant) -> bool:
    """Whether it is one whose position counts, then."""
    return member.status == "member" and member.from_ <= instant and (member.until is None or instant < member.until)
