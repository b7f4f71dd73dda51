"""Makes what the services read, for tests: example data of every type, and the records that carry it.

incoming(example(PledgeOffered, quantity=3))                      as submitted, by the state that may
incoming(example(RequestRaised), topic=topics.REQUESTS)           as it stands on the public topic
incoming(example(PledgeAccepted), by="KZ", at=T0 + HOUR, key=k)   by another, later, signed
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any, Final, TypeVar

from chassis.facts import Incoming
from qalqan import topics
from qalqan.envelope import Event
from qalqan.events import EVENTS, TICK, EventType, Tick, dump, type_of
from qalqan.fields import Model
from qalqan.instants import format_instant
from qalqan.signing import SigningKey, sign
from qalqan.sources import Source, root_source, secretariat_source, service_source, state_source
from qalqan.topics import Topic

M = TypeVar("M", bound=Model)

NETWORK: Final = "dev-3f9a"
REQUEST_ID: Final = "TR-2023-0001"
T0: Final = datetime(2023, 2, 6, 3, 0, tzinfo=UTC)
"""When most of what tests record was recorded."""
HOUR: Final = timedelta(hours=1)

ADANA: Final = {"name": "Adana", "country": "TR", "lat": 36.98, "lon": 35.28}
BAKU: Final = {"name": "Baku", "country": "AZ", "lat": 40.47, "lon": 50.05}
NEED: Final = {
    "need_id": "N1",
    "capability": "MUSAR",
    "quantity": 10,
    "unit": "team",
    "priority": 1,
    "needed_by": "2023-02-08T01:17:34Z",
    "deliver_to": ADANA,
    "substitutes": ["HUSAR"],
}
"""The need of CONTRACT's example."""


def digest(name: str) -> str:
    """A digest of the contract's form, another for each name."""
    return f"sha256:{sha256(name.encode()).hexdigest()}"


def need(need_id: str = "N1", **changes: object) -> dict[str, object]:
    """A need as JSON data, like the contract's example but for the changes."""
    return {**NEED, "need_id": need_id, **changes}


_REPORT = {
    "request_id": REQUEST_ID,
    "pledge_id": "AZ-1",
    "line_id": None,
    "quantity": 1,
    "at": "2023-02-06T08:00:00Z",
    "place": None,
}
_BALLOT = {
    "network": NETWORK,
    "mode": "actual",
    "request_id": REQUEST_ID,
    "revision": 1,
    "request_digest": digest("request"),
    "round": 1,
    "items": ["N1"],
    "rule": {"rule_id": "consensus-1", "kind": "consensus", "window": "PT24H", "window_at_risk": "PT6H"},
    "roll": ["AZ", "KG", "KZ", "TR", "UZ"],
    "affected_state": "TR",
    "members_offset": 41,
    "governance_offset": 0,
    "opened_at": "2023-02-06T03:00:00Z",
    "deadline": "2023-02-06T09:00:00Z",
}
_CLOSING = {
    "request_id": REQUEST_ID,
    "ballot_id": digest("ballot"),
    "revision": 1,
    "round": 1,
    "mode": "actual",
    "tally": {},
    "absent": [],
    "blocked_by": [],
    "decided_at": "2023-02-06T04:00:00Z",
    "decision_digest": digest("decision"),
    "certificate": {},
}
_MOBILIZATION = {
    "request_id": REQUEST_ID,
    "mobilization_id": f"M-{REQUEST_ID}",
    "revision": 1,
    "mode": "actual",
    "decisions": [digest("decision")],
    "authorized_at": "2023-02-06T04:00:00Z",
    "lines": [],
    "coverage": [],
    "optimality_gap": None,
}
_ENDING = {"request_id": REQUEST_ID, "reason": "Enough has come"}
_ANSWER = {"request_id": REQUEST_ID, "pledge_id": "AZ-1", "pledge_revision": 1}

_REQUEST: Final[Mapping[str, Any]] = {
    "request_id": REQUEST_ID,
    "affected_state": "TR",
    "mode": "actual",
    "emergency": {
        "kind": "earthquake",
        "title": "Kahramanmaraş earthquakes",
        "occurred_at": "2023-02-06T01:17:34Z",
        "place": {"name": "Pazarcık", "country": "TR", "lat": 37.23, "lon": 37.01},
        "severity": "Extreme",
    },
    "needs": [NEED],
    "acceptance": "manual",
}
_OFFER: Final[Mapping[str, Any]] = {
    "pledge_id": "AZ-1",
    "request_id": REQUEST_ID,
    "pledging_state": "AZ",
    "channel": "mechanism",
    "answers": ["N1"],
    "capability": "HUSAR",
    "quantity": 4,
    "unit": "team",
    "divisible": True,
    "min_quantity": 1,
    "origin": BAKU,
    "mode_of_transport": "air",
    "transport": "own",
    "ready_at": "2023-02-06T06:00:00Z",
    "arrives_at": "2023-02-06T12:00:00Z",
    "offer_expires_at": "2023-02-08T00:00:00Z",
    "cost_borne_by": "pledging_state",
    "certified_unit": "AZ-USAR-1",
}

EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "RequestAnticipated": {name: _REQUEST[name] for name in ("request_id", "affected_state", "mode", "emergency")},
    "RequestRaised": _REQUEST,
    "RequestAmended": {**_REQUEST, "revision": 2},
    "RequestCancelled": _ENDING,
    "RequestClosed": _ENDING,
    "PledgeOffered": _OFFER,
    "PledgeRevised": {**_OFFER, "revision": 2, "quantity": 2},
    "PledgeWithdrawn": {"request_id": REQUEST_ID, "pledge_id": "AZ-1", "reason": "Needed at home"},
    "PledgeAccepted": {**_ANSWER, "quantity": 4},
    "PledgeDeclined": {**_ANSWER, "reason": "Enough has come"},
    "ResourceCommitted": _REPORT,
    "ResourceDeparted": _REPORT,
    "ResourceArrived": _REPORT,
    "ResourceReleased": _REPORT,
    "VoteCast": {
        "request_id": REQUEST_ID,
        "ballot_id": digest("ballot"),
        "round": 1,
        "state": "KZ",
        "sequence": 1,
        "position": "approve",
    },
    "BallotOpened": {"request_id": REQUEST_ID, "ballot_id": digest("ballot"), "ballot": _BALLOT},
    "ConsensusReached": _CLOSING,
    "ConsensusBlocked": {**_CLOSING, "blocked_by": [{"state": "KZ", "reason": "Not this route"}]},
    "BallotLapsed": {**_CLOSING, "absent": ["KZ"]},
    "BallotSuperseded": _CLOSING,
    "BallotWithdrawn": _CLOSING,
    "MandateEnded": {"request_id": REQUEST_ID, "cause": {}},
    "MobilizationAuthorized": _MOBILIZATION,
    "MobilizationRevised": {**_MOBILIZATION, "revision": 2},
    "SubmissionRejected": {
        "source_topic": "inbox.pledges",
        "partition": 0,
        "offset": 0,
        "reason": "stale",
        "detail": "pledge_revision: 1 was replaced by 2",
        "original_base64": None,
    },
    "MemberRegistered": {
        "serial": 1,
        "previous": None,
        "state": "KZ",
        "names": {"en": "Kazakhstan", "kk": "Қазақстан"},
        "status": "member",
        "from": "2022-01-01T00:00:00Z",
    },
    "KeyRegistered": {
        "serial": 1,
        "previous": None,
        "source": state_source(NETWORK, "KZ"),
        "key_id": "0" * 64,
        "algorithm": "ed25519",
        "public_key": "",
        "scopes": ["vote"],
        "valid_from": "2022-01-01T00:00:00Z",
        "possession": "",
    },
    "KeyRevoked": {"serial": 1, "previous": None, "key_id": "0" * 64, "reason": "The device was lost"},
    "Tick": {"at": "2023-02-06T09:00:00Z"},
}
"""Data of every type, as in the contract where it has an example; proofs and chains in it are not real."""


def example(model: type[M], **changes: object) -> M:
    """The example of a type, but for the changes (JSON data or values of the model)."""
    return model.model_validate({**EXAMPLES[model.__name__], **changes})


def kind_of(data: Model) -> EventType:
    """The type in the contract's table."""
    return TICK if isinstance(data, Tick) else EVENTS[type_of(type(data).__name__)]


def author(data: Model, kind: EventType) -> str:
    """The source that may say it: the state by the ids in the data, the service by its topic."""
    if kind.signer == "secretariat":
        registers_secretariat = getattr(data, "source", None) == secretariat_source(NETWORK)
        return root_source(NETWORK) if registers_secretariat else secretariat_source(NETWORK)
    if kind.signer == "service":
        services = {
            topics.DECISIONS: "consensus",
            topics.MOBILIZATIONS: "pledge",
            topics.REJECTIONS: "pledge",
        }
        return service_source(NETWORK, services.get(kind.topic or topics.DECISIONS, "consensus"))
    field = kind.actor or ("request_id" if kind.scope in ("request", "accept") else "pledge_id")
    return state_source(NETWORK, str(getattr(data, field)).split("-")[0])


def event(
    data: Model,
    *,
    by: str | None = None,
    at: datetime = T0,
    event_id: str | None = None,
    key: SigningKey | None = None,
    extensions: Mapping[str, str] | None = None,
) -> Event:
    """The CloudEvent of data, signed if given a key; `by`: a state's code or a source, else whose it is."""
    kind = kind_of(data)
    source = author(data, kind) if by is None else by if "://" in by else state_source(NETWORK, by)
    subject = next(
        (str(getattr(data, name)) for name in ("request_id", "key_id", "state") if hasattr(data, name)),
        "subject",
    )
    made = Event(
        id=event_id or f"{kind.name}-{next(_serial)}",
        source=source,
        type=kind.type,
        subject=subject,
        time=format_instant(at),
        datacontenttype="application/json",
        data=json.dumps(dump(data), ensure_ascii=False).encode(),
        extensions={"partitionkey": subject, **(extensions or {})},
    )
    return sign(made, key) if key else made


def incoming(
    data: Model,
    *,
    by: str | None = None,
    at: datetime = T0,
    topic: Topic | None = None,
    offset: int | None = None,
    event_id: str | None = None,
    key: SigningKey | None = None,
) -> Incoming:
    """A record that passed the checks, recorded `at`; `topic`: else its inbox, else its public topic."""
    kind = kind_of(data)
    made = event(data, by=by, at=at, event_id=event_id, key=key)
    source = Source.parse(made.source)
    assert source is not None, made.source
    read_from = topic or kind.inbox or kind.topic
    return Incoming(
        topic=read_from.name if read_from else "",
        partition=topics.partition_of(made.subject or "", read_from.partitions if read_from else 1),
        offset=next(_serial) if offset is None else offset,
        recorded_at=at,
        event=made,
        kind=kind,
        data=data,
        source=source,
    )


_serial = count(1)
