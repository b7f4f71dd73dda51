"""Submissions over HTTP: `POST /events` for those who have no Kafka client, and what became of each (CONTRACT
"Submissions"). What fails here is never written to Kafka."""

import asyncio
import re
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from chassis.admission import Admission, record_of
from chassis.bus import Bus, Outgoing
from chassis.database import TRANSIENT, Pool
from chassis.follower import Follower
from chassis.http import schemas
from chassis.lookup import Lookup
from chassis.problems import described, problem, refused
from chassis.reading import TOKEN, Guard
from chassis.settlement import Place, PublicPlace, Said, Settlement, is_handled, settlement
from chassis.tokens import Tokens
from chassis.traces import HEADER, Traces
from qalqan.envelope import JSON, STRUCTURED_JSON, BadEnvelope, Event, from_http, to_kafka
from qalqan.events import EVENTS, Reason
from qalqan.topics import RECORD_LIMIT_BYTES, Topic, partition_of

log = structlog.get_logger()

WAIT_LIMIT_S = 30
_POLL_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
_ANSWER_WITHIN_S = 1.0
_BROKER_PATIENCE_S = 10.0
"""A broker that is silent for so long is away: 503, since an idempotent producer would try for ever."""
_REMEMBERED = 4_096
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


class Standing(BaseModel):
    """Where an admitted submission stands: a public topic, its partition, its key, its place in the key's order
    (`position`, where the topic has positions)."""

    topic: str
    partition: int
    key: str
    position: int | None = None


class Submission(BaseModel):
    """What became of a submission.

    `reason`, `detail`: of a rejected one. `stands_on`: of an admitted one, for at least seven days. `repeats`: where
    the same was submitted first, when this is a repetition: it had no effect of its own, the status is the first's.
    """

    status: Literal["pending", "admitted", "rejected"]
    location: str = Field(pattern="^/submissions/")
    topic: str
    partition: int
    offset: int
    reason: Reason | None = None
    detail: str | None = None
    stands_on: Standing | None = None
    repeats: str | None = None


class Submissions:
    """The submissions of one service's inbox: taken, and told what became of them."""

    def __init__(
        self,
        inbox: Topic,
        admission: Admission,
        bus: Bus,
        follower: Follower,
        pool: Pool,
        lookup: Lookup,
        traces: Traces | None = None,
    ) -> None:
        self.traces = traces
        self._inbox = inbox
        self._admission = admission
        self._bus = bus
        self._follower = follower
        self._pool = pool
        self._lookup = lookup
        self._said: OrderedDict[Place, Said | None] = OrderedDict()

    async def judge(self, event: Event) -> Response | Outgoing:
        """All checks that need no state: the record to write, or why not."""
        key, value, headers = to_kafka(event)
        if self.traces is not None:
            headers.append((HEADER, self.traces.traceparent_of_submission(event).encode()))
        partition = partition_of(key.decode(), self._inbox.partitions)
        now = datetime.now(UTC)
        record = record_of(self._inbox.name, partition, 0, int(time.time() * 1000), key, value, headers)
        judgement = self._admission.judge(record, now)
        if judgement.refused is not None and judgement.refused.reason == "unknown-key":
            await self._follower.catch_up(until=now)
            judgement = self._admission.judge(record, now)
        if judgement.refused is not None:
            return refused(judgement.refused.reason, judgement.refused.detail)
        return Outgoing(self._inbox.name, partition, key, value, headers)

    async def send(self, event: Event, record: Outgoing) -> Place:
        """Writes a submission to the inbox. KafkaError: the broker did not take it, as far as is known."""
        partition, offset = await self._bus.send(record)
        place = Place(self._inbox.name, partition, offset)
        log.debug("submission.taken", request_id=event.subject, place=str(place), type=event.type, event_id=event.id)
        self._remember(place, Said.of(event))
        return place

    async def settled(self, place: Place, wait_s: float) -> Settlement:
        """What became of a submission within a while; `pending` when that is not known by then."""
        deadline = time.monotonic() + wait_s
        tries = 0
        while (found := await self._known(place, deadline)).status == "pending":
            left = deadline - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, _POLL_S[min(tries, len(_POLL_S) - 1)]))
            tries += 1
        return found

    async def _known(self, place: Place, deadline: float) -> Settlement:
        """What the database knows of it. When it does not answer (its disk is full) that is nothing yet: the broker has
        the submission, and whoever sent it must be told that."""
        try:
            async with asyncio.timeout(max(_ANSWER_WITHIN_S, deadline - time.monotonic())):
                return await settlement(self._pool, place, self._said.get(place))
        except TRANSIENT as error:
            said = self._said.get(place)
            about = None if said is None else said.subject
            log.warning("database.cannot_tell", request_id=about, place=str(place), error=repr(error))
            return Settlement("pending")

    async def look_up(self, place: Place) -> Settlement | None:
        """What became of the submission at a place; None: nothing was submitted there."""
        if place.topic != self._inbox.name or place.partition >= self._inbox.partitions:
            return None
        if place not in self._said:
            record = await self._lookup.at(place.topic, place.partition, place.offset)
            if record is not None:
                self._remember(place, Said.of_record(record.key, record.headers, record.value))
            elif not await is_handled(self._pool, place):
                return None
        return await settlement(self._pool, place, self._said.get(place))

    def _remember(self, place: Place, said: Said | None) -> None:
        """The log does not change: what stands at a place is read once."""
        self._said[place] = said
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)


def submissions(inbox: Topic, taking: Submissions, tokens: Tokens) -> APIRouter:
    """`POST /events`, open: a signature is all it asks for; `GET /submissions/...` for those who show a token."""
    router = APIRouter(tags=["submissions"])
    models = [kind.model for kind in EVENTS.values() if kind.inbox == inbox]
    router.schemas = {**schemas(*models), "StructuredEvent": _structured(inbox)}  # type: ignore[attr-defined]

    @router.post(
        "/events",
        status_code=202,
        summary="Submit a signed CloudEvent, binary or structured",
        response_model=Submission,
        response_description="The broker has it, and it is not settled yet",
        responses={
            201: {"model": Submission, "description": "Settled, and admitted (only with `Prefer: wait`)"},
            204: {"description": "It would be taken (only with `?validate=only`)", "content": {}},
            **described(413, 422, 503),
        },
        openapi_extra=_request_body(inbox),
    )
    async def submit(
        request: Request,
        validate: Annotated[
            Literal["only"] | None, Query(description="`only`: all checks that need no state; nothing is written")
        ] = None,
        prefer: Annotated[
            str | None, Header(description="RFC 7240: `wait=N`, in seconds, at most 30", examples=["wait=5"])
        ] = None,
    ) -> Response:
        """202 with its location once the broker has it; with `Prefer: wait=N` 201 or 422 once it is settled within N
        seconds. 422 (413) with the contract's reason: the checks come before anything is written to Kafka."""
        body = await _body(request)
        if body is None:
            return refused("too-large", f"the body is larger than {2 * RECORD_LIMIT_BYTES} bytes")
        try:
            event = from_http(_headers(request), body)
        except BadEnvelope as error:
            return refused("bad-envelope", str(error))
        begun_ns = time.time_ns()
        async with asyncio.timeout(_BROKER_PATIENCE_S):
            record = await taking.judge(event)
            if isinstance(record, Response):
                return record
            if validate == "only":
                return Response(status_code=204)
            place = await taking.send(event, record)
        wait_s = preferred_wait_s(request.headers.getlist("prefer"))
        if taking.traces is not None:
            caller = request.headers.get("traceparent")
            taking.traces.submitted(event, record, place.offset, begun_ns, time.time_ns(), caller)
        if wait_s is None:
            return _told(202, place, Settlement("pending"))
        found = await taking.settled(place, wait_s)
        if found.status in ("admitted", "pending"):
            answer = _told(201 if found.status == "admitted" else 202, place, found)
        else:
            answer = refused(found.reason or "bad-data", found.detail or "", _location(place))
        answer.headers["Preference-Applied"] = f"wait={wait_s}"
        return answer

    @router.get(
        "/submissions/{topic}/{partition}/{offset}",
        summary="What became of a submission",
        response_model=Submission,
        responses=described(401, 404, 410, 422, 503),
        dependencies=[Depends(Guard(tokens))],
        openapi_extra={"security": TOKEN},
    )
    async def submission(
        topic: Annotated[str, Path(examples=[inbox.name])],
        partition: Annotated[int, Path(ge=0, lt=2**31)],
        offset: Annotated[int, Path(ge=0, lt=2**63)],
    ) -> Response:
        """Any replica answers, also after a restart. 404: nothing was submitted there (yet). 410: it was handled, and
        what became of it is not kept any more."""
        place = Place(topic, partition, offset)
        async with asyncio.timeout(_BROKER_PATIENCE_S):
            found = await taking.look_up(place)
        if found is None:
            return problem(
                404, f"nothing was submitted at {str(place)[:200]}, which is for {inbox.name}'s owner to know"
            )
        if found.status == "forgotten":
            return problem(410, "it was handled; what became of it is kept for seven days, and had no lasting effect")
        return _told(200, place, found)

    return router


def preferred_wait_s(preferences: list[str]) -> int | None:
    """The seconds of the first `wait` of `Prefer` headers (RFC 7240, 4.3), at most 30; None: there is none."""
    found = _WAIT.search(",".join(preferences))
    return None if found is None else min(int(found[1]), WAIT_LIMIT_S)


def _told(status: int, place: Place, found: Settlement) -> Response:
    location = _location(place)
    body = Submission(
        status="pending" if found.status == "forgotten" else found.status,
        location=location,
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        reason=found.reason,
        detail=found.detail,
        stands_on=_standing(found.stands_on),
        repeats=None if found.first is None else _location(Place(place.topic, place.partition, found.first)),
    )
    headers = {"Location": location} if status in (201, 202) else None
    return JSONResponse(body.model_dump(exclude_none=True), status, headers)


def _standing(place: PublicPlace | None) -> Standing | None:
    if place is None:
        return None
    return Standing(topic=place.topic, partition=place.partition, key=place.key, position=place.position)


def _location(place: Place) -> str:
    return f"/submissions/{place}"


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > 2 * RECORD_LIMIT_BYTES:
            return None
    return bytes(body)


def _headers(request: Request) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in request.headers.raw]


# --- as OpenAPI describes it -----------------------------------------------------------------------------------------


def _request_body(inbox: Topic) -> dict[str, Any]:
    data = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in _names(inbox)]}
    return {
        "requestBody": {
            "required": True,
            "description": "Structured: the whole event. Binary: its data, the attributes in `ce-` headers.",
            "content": {
                STRUCTURED_JSON: {"schema": {"$ref": "#/components/schemas/StructuredEvent"}},
                JSON: {"schema": data},
            },
        }
    }


def _structured(inbox: Topic) -> dict[str, Any]:
    """A CloudEvent in structured JSON mode, as an inbox takes it."""
    data = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in _names(inbox)]}
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "title": "StructuredEvent",
        "required": [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "datacontenttype",
            "data_base64",
            "dssematerial",
        ],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**text, "maxLength": 128, "pattern": "^[ -~]+$"},
            "source": {**text, "format": "uri", "examples": ["qalqan://dev-3f9a/states/KZ"]},
            "type": {"enum": [kind.type for kind in EVENTS.values() if kind.inbox == inbox]},
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": JSON},
            "dssematerial": {**text, "contentEncoding": "base64"},
            "data_base64": {
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": JSON,
                "contentSchema": data,
            },
        },
        "additionalProperties": {"type": ["string", "boolean", "integer", "null"]},
    }


def _names(inbox: Topic) -> list[str]:
    return [kind.name for kind in EVENTS.values() if kind.inbox == inbox]
