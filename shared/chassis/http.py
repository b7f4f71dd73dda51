"""HTTP beside Kafka, in the same event loop: the application of a service, its health, its OpenAPI document."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import Problem, answer_with_problems
from qalqan.registry import Registry

BODY_LIMIT_BYTES = 1024 * 1024
"""More is never read: a body is read before anybody looks at who sends it."""


class Health(BaseModel):
    """Whether a replica is ready, and up to which offset of `members` it has read."""

    service: str
    ready: bool
    members_offset: int


def application(name: str, ready: Callable[[], bool], registry: Registry, *routers: APIRouter) -> FastAPI:
    """The service's HTTP application. `/health`, `/metrics`, `/openapi.json` are open, the rest as each router says."""
    app = FastAPI(
        title=f"Qalqan {name}",
        description=f"What the {name} service takes and shows over HTTP. Errors are RFC 9457 problems.",
        version="1",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        # A redirect would lead to whatever `Host` the asker claims.
        redirect_slashes=False,
    )
    answer_with_problems(app)
    app.add_middleware(_BodyLimit)

    @app.get(
        "/health",
        summary="Whether this replica is ready",
        response_model=Health,
        responses={503: {"model": Health, "description": "Not ready yet"}},
    )
    async def health(response: Response) -> Health:
        """200 when the replica has joined and knows its members; 503 until then."""
        is_ready = ready()
        response.status_code = 200 if is_ready else 503
        return Health(service=name, ready=is_ready, members_offset=registry.next_offset)

    @app.get(
        "/metrics",
        summary="What this replica tells Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Counted since the start of this process, or as it stands now; text format of Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for router in routers:
        app.include_router(router)
    _complete(app, routers)
    return app


def schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """JSON Schemas of models and what they stand on, by name, for the components of an OpenAPI document."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found


class _BodyLimit:
    """413 for whoever sends more than `BODY_LIMIT_BYTES`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_LIMIT_BYTES:
                if scope["method"] == "GET":
                    return {"type": "http.disconnect"}  # it has none; where it is read, an answer is under way
                raise HTTPException(413, f"the body is larger than {BODY_LIMIT_BYTES} bytes")
            return message

        await self._app(scope, bounded, send)


def _complete(app: FastAPI, routers: tuple[APIRouter, ...]) -> None:
    """FastAPI's document, and the schemas that only problems and submissions refer to (`router.schemas`)."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        components = document.setdefault("components", {}).setdefault("schemas", {})
        for router in routers:
            components.update(getattr(router, "schemas", {}))
        components.update(schemas(Problem))
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way of extending its document


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
