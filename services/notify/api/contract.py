"""HTTP out: the contract as files, open to everybody. OpenAPI of each service is at its own `/openapi.json`."""

import json
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from chassis.problems import described
from chassis.reading import unknown
from qalqan.contract import documents

_JSON = "application/json"
_A_DOCUMENT: dict[int | str, dict[str, Any]] = {200: {"content": {_JSON: {"schema": {"type": "object"}}}}}


def contract_router() -> APIRouter:
    """What `qalqan contract export` writes of events and topics."""
    router = APIRouter()

    @router.get("/contract", summary="Where the documents of the contract are", response_model=list[str])
    async def listed() -> list[str]:
        """Paths, AsyncAPI first."""
        return [f"/contract/{name}" for name in _texts()]

    @router.get("/contract/asyncapi.json", summary="The topics, as AsyncAPI 3", responses=_A_DOCUMENT)
    async def asyncapi() -> Response:
        """What is taken on each inbox, and what stands on each public topic."""
        return _shown("asyncapi.json")

    @router.get(
        "/contract/schemas/{name}.json",
        summary="The JSON Schema of an event's data",
        responses={**_A_DOCUMENT, **described(404, 422)},
    )
    async def schema(name: Annotated[str, Path(examples=["VoteCast"])]) -> Response:
        """By the event's name."""
        return _shown(f"schemas/{name}.json")

    return router


def _shown(name: str) -> Response:
    text = _texts().get(name)
    if text is None:
        raise unknown(f"{name} of the contract"[:120])
    return Response(text, media_type=_JSON, headers={"Cache-Control": "public, max-age=3600"})


@cache
def _texts() -> dict[str, str]:
    """Made once, when somebody asks."""
    return {name: json.dumps(document) for name, document in documents().items()}
