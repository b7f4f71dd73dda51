"""Whether a certificate, or the whole event that closed a ballot, holds: by root.json and nothing else.

What no signature covers in a certificate by itself (instants of recording, inbox offsets, the place in the
chain) is checked for agreement; the closing event's signature covers it all.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from qalqan import jsontext
from qalqan.certificate.evidence import CAUSES, Evidence, consensus_source
from qalqan.certificate.record import CLOSING, Certificate, digest
from qalqan.certificate.registrations import Registrations
from qalqan.complaints import complaints, shown
from qalqan.envelope import Event, from_structured, to_structured
from qalqan.events import BallotClosed, VoteCast
from qalqan.registry import Root


def verify_certificate(certificate: dict[str, Any], root: Root) -> list[str]:
    """Why this certificate does not hold, each reason a sentence for a person; empty: it is valid.

    `certificate` is its JSON as received. Nothing in it makes this raise.
    """
    try:
        # Written and read again: from here on it is plain JSON within the limits, whatever came.
        plain = jsontext.parse(json.dumps(certificate).encode(), max_string=None)
    except RecursionError:
        return [f"certificate: nested deeper than {jsontext.MAX_DEPTH} levels"]
    except (ValueError, TypeError) as error:
        return [f"certificate: {error}"]
    return _examine(plain, root).reasons


def verify_event(event: Event, root: Root) -> list[str]:
    """Why this event, which closes a ballot, does not hold; empty: it is valid.

    Beside its certificate: the issuer's signature, the decision's digest, and that the event says what its
    certificate says. Extension attributes are signed by nobody; those that repeat signed data must agree.
    """
    try:
        event = from_structured(to_structured(event))  # an Event made by hand is held to the contract too
        if event.type not in CLOSING:
            return [f"event: {shown(event.type)} closes no ballot"]
        data = jsontext.parse(event.data, max_string=None)  # it carries whole events in base64
        closed = BallotClosed.model_validate(data)
    except ValidationError as error:
        return list(complaints(error, "data"))
    except ValueError as error:
        return [f"event: {error}"]
    examined = _examine(data["certificate"], root)
    if examined.certificate is not None:
        examined.add(_disagreements(event, closed, data["certificate"], examined.certificate))
        doubt = examined.registrations.doubt(event, consensus_source(root.network))
        examined.add([f"event: {doubt}"] if doubt else [])
    return examined.reasons


@dataclass(frozen=True, slots=True)
class _Examination:
    """What was found out; `certificate` is None when it has not the record's form."""

    reasons: list[str]
    certificate: Certificate | None
    registrations: Registrations

    def add(self, reasons: Iterable[str]) -> None:
        self.reasons.extend(reasons)


def _examine(raw: dict[str, Any], root: Root) -> _Examination:
    try:
        certificate = Certificate.model_validate(raw)
    except ValidationError as error:
        return _Examination(list(complaints(error, "certificate")), None, Registrations(root, (), ()))
    registrations = Registrations(root, certificate.keys, certificate.members)
    examination = _Examination(list(registrations.reasons), certificate, registrations)
    examination.add(Evidence(raw, certificate, root, registrations).faults())
    return examination


def _disagreements(event: Event, closed: BallotClosed, raw: dict[str, Any], certificate: Certificate) -> Iterator[str]:
    """Where the event says something else than its certificate."""
    ballot = certificate.ballot
    positions = {entry.state: entry.position for entry in certificate.counted}
    blocked_by = sorted((objection.state, objection.reason) for objection in closed.blocked_by)
    # A ballot that was withdrawn is blocked by nobody, though there may be objections.
    none_due = certificate.outcome in CAUSES and not blocked_by
    for name, stated, certified in (
        ("type", CLOSING[event.type], certificate.outcome),
        ("subject", event.subject, ballot.request_id),
        ("partitionkey", event.extensions.get("partitionkey", event.subject), event.subject),
        ("extension mode", event.extensions.get("mode", closed.mode), closed.mode),
        ("request_id", closed.request_id, ballot.request_id),
        ("ballot_id", closed.ballot_id, jsontext.digest_of(raw["ballot"])),
        ("revision", closed.revision, ballot.revision),
        ("round", closed.round, ballot.round),
        ("mode", closed.mode, ballot.mode),
        ("tally", dict(closed.tally), positions),
        ("absent", sorted(closed.absent), sorted(set(ballot.roll) - positions.keys())),
        ("blocked_by", blocked_by, [] if none_due else sorted(_objections(certificate))),
        ("decided_at", closed.decided_at, certificate.decided_at),
        ("decision_digest", closed.decision_digest, digest(raw)),
    ):
        if stated != certified:
            yield f"event: {name} is not what the certificate gives"


def _objections(certificate: Certificate) -> Iterator[tuple[str, str]]:
    """Who objects and why, by the votes themselves; a vote that cannot be read was found wanting before."""
    for entry in certificate.counted:
        if entry.position == "object":
            try:
                vote = VoteCast.model_validate(jsontext.parse(from_structured(entry.event).data))
            except ValueError:
                continue
            yield entry.state, vote.reason or ""
