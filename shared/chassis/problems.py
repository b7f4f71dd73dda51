"""What goes wrong over HTTP, in the one form of RFC 9457: for a person to read, and for a program to tell apart."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from asyncpg import DiskFullError
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from chassis.database import TRANSIENT
from qalqan.events import Reason

log = structlog.get_logger()

PROBLEM = "application/problem+json"
_RETRY_AFTER_S = "1"
_PATH_LIMIT = 200
_FINDINGS = 8

Responses = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """A problem (RFC 9457). `reason`: the contract's, of a submission that is refused; `instance`: that submission."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["no request TR-2023-0001 is known"])
    reason: Reason | None = None
    instance: str | None = None


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that the contract has no reason for: its status says what kind it is."""
    phrase = HTTPStatus(status).phrase
    return _answer(Problem(type="about:blank", title=phrase, status=status, detail=detail), headers)


def refused(reason: Reason, detail: str, location: str | None = None) -> Response:
    """Why a submission is refused: the contract's reason. `location`: of a submission that the broker has."""
    status = 413 if reason == "too-large" else 422
    headers = None if location is None else {"Location": location}
    body = Problem(type=reason, title=reason, status=status, detail=detail, reason=reason, instance=location)
    return _answer(body, headers)


def _answer(body: Problem, headers: Mapping[str, str] | None) -> Response:
    return JSONResponse(body.model_dump(exclude_none=True), body.status, headers, PROBLEM)


def described(*statuses: int) -> Responses:
    """Problems of these statuses, as OpenAPI describes them."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM: schema}} for status in statuses}


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes of a path (RFC 9110, 15.5.6); Starlette names those of the first route alone."""
    found = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def answer_with_problems(app: FastAPI) -> None:
    """Every error of an application is answered as a problem, FastAPI's and Starlette's own too."""

    @app.exception_handler(HTTPException)
    async def as_raised(request: Request, error: HTTPException) -> Response:
        detail, headers = str(error.detail), error.headers
        if error.status_code == 405:
            headers = {"Allow": ", ".join(_allowed(app, request))}
        if error.status_code in (404, 405) and detail == HTTPStatus(error.status_code).phrase:
            detail = "nothing is here" if error.status_code == 404 else "this method is not for here (see Allow)"
        return problem(error.status_code, detail, headers)

    @app.exception_handler(RequestValidationError)
    async def unlike_its_form(_: Request, error: RequestValidationError) -> Response:
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        more = [f"and {len(found) - _FINDINGS} more"] if len(found) > _FINDINGS else []
        return problem(422, "; ".join([*found[:_FINDINGS], *more]))

    @app.exception_handler(ClientDisconnect)
    async def cut_short(_: Request, __: ClientDisconnect) -> Response:
        # Nobody is there to read it, and nothing was done: no fault of ours.
        return problem(400, "the body ended before it was whole")

    async def for_now(request: Request, error: Exception) -> Response:
        log.warning("http.unavailable", **_asked(request), error=repr(error))
        full = isinstance(error, DiskFullError)
        what = "the database's disk is full" if full else "Kafka or the database does not answer at the moment"
        return problem(503, f"{what}; whether the request had an effect is not known", {"Retry-After": _RETRY_AFTER_S})

    for passing in (KafkaError, *TRANSIENT):
        app.add_exception_handler(passing, for_now)

    @app.exception_handler(Exception)
    async def a_bug(request: Request, error: Exception) -> Response:
        log.error("http.failed", **_asked(request), error=repr(error))
        return problem(500, "a fault of this service; it is in its log")


def _asked(request: Request) -> dict[str, str | None]:
    """What was asked, for a log line: the request of the mechanism that it is about, where the call names one."""
    about = request.headers.get("ce-subject") or request.path_params.get("request_id")
    return {
        "method": request.method,
        "path": request.url.path[:_PATH_LIMIT],
        "request_id": None if about is None else about[:_PATH_LIMIT],
    }
