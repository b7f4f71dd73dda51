"""HTTP beside Kafka, in the same event loop: health, and `POST /events` for those who have no Kafka client.

Problems are RFC 9457, with the contract's reason; what fails here is never written to Kafka.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from chassis.admission import Admission, record_of
from chassis.bus import Bus, Outgoing
from chassis.follower import Follower
from qalqan.envelope import BadEnvelope, from_http, to_kafka
from qalqan.events import Reason
from qalqan.registry import Registry
from qalqan.topics import RECORD_LIMIT_BYTES, Topic, partition_of

_PROBLEM = "application/problem+json"


def application(name: str, ready: Callable[[], bool], registry: Registry, *routers: APIRouter) -> FastAPI:
    """The service's HTTP application: `/health` is open, the rest as each router says."""
    app = FastAPI(title=f"Qalqan {name}", version="1", openapi_url="/openapi.json", docs_url=None, redoc_url=None)

    @app.get("/health", summary="Whether this replica is ready")
    async def health(response: Response) -> dict[str, Any]:
        """200 when the replica has joined and knows its members; 503 until then."""
        is_ready = ready()
        response.status_code = 200 if is_ready else 503
        return {"service": name, "ready": is_ready, "members_offset": registry.next_offset}

    @app.exception_handler(StarletteHTTPException)
    async def problem(_: Request, error: StarletteHTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        body = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": str(error.detail),
        }
        return JSONResponse(body, status.value, error.headers, _PROBLEM)

    for router in routers:
        app.include_router(router)
    return app


def submissions(inbox: Topic, admission: Admission, bus: Bus, follower: Follower) -> APIRouter:
    """`POST /events`: all checks that need no state happen before anything is written to Kafka."""
    router = APIRouter()

    @router.post("/events", status_code=202, summary="Submit a signed CloudEvent, binary or structured")
    async def submit(request: Request, validate: Annotated[str | None, Query()] = None) -> Response:
        """202 with its location once the broker has it; 422 (413) with the contract's reason;
        `?validate=only` writes nothing."""
        body = await _body(request)
        if body is None:
            return _problem("too-large", f"the body is larger than {2 * RECORD_LIMIT_BYTES} bytes")
        try:
            event = from_http(_headers(request), body)
        except BadEnvelope as error:
            return _problem("bad-envelope", str(error))
        key, value, headers = to_kafka(event)
        partition = partition_of(key.decode(), inbox.partitions)
        record = record_of(inbox.name, partition, 0, int(time.time() * 1000), key, value, headers)
        now = datetime.now(UTC)
        judgement = admission.judge(record, now)
        if judgement.refused is not None and judgement.refused.reason == "unknown-key":
            await follower.catch_up(until=now)
            judgement = admission.judge(record, now)
        if judgement.refused is not None:
            return _problem(judgement.refused.reason, judgement.refused.detail)
        if validate == "only":
            return Response(status_code=204)
        partition, offset = await bus.send(Outgoing(inbox.name, partition, key, value, headers))
        location = f"/submissions/{inbox.name}/{partition}/{offset}"
        return JSONResponse({"location": location}, status_code=202, headers={"Location": location})

    return router


def reader(token: str) -> Callable[[str | None], None]:
    """A dependency that lets only those read who show the token."""

    def check(authorization: Annotated[str | None, Header()] = None) -> None:
        """401 without `Authorization: Bearer <token>`."""
        shown = (authorization or "").removeprefix("Bearer ")
        if not token or not secrets.compare_digest(shown.encode(), token.encode()):
            raise HTTPException(401, "show `Authorization: Bearer <token>`", {"WWW-Authenticate": "Bearer"})

    return check


def guarded(token: str) -> APIRouter:
    """A router whose routes need the reader's token."""
    return APIRouter(dependencies=[Depends(reader(token))])


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > 2 * RECORD_LIMIT_BYTES:
            return None
    return bytes(body)


def _headers(request: Request) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in request.headers.raw]


def _problem(reason: Reason, detail: str) -> Response:
    """Why a submission is refused, as RFC 9457 has it."""
    status = 413 if reason == "too-large" else 422
    body = {"type": reason, "title": reason, "status": status, "detail": detail, "reason": reason}
    return JSONResponse(body, status_code=status, media_type=_PROBLEM)


class _Server(uvicorn.Server):
    """uvicorn, but the signals are FastStream's to handle."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


@contextlib.asynccontextmanager
async def serving(app: FastAPI, host: str, port: int) -> AsyncIterator[None]:
    """Serves while the block runs, in this event loop."""
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, lifespan="off")
    server = _Server(config)
    task = asyncio.create_task(server.serve(), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
