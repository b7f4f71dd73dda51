"""How the register is stored: one small document a request."""

from collections.abc import Mapping
from typing import Any

from services.request.domain import Request


def split(before: Request | None, after: Request) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The document of a request; it has no parts."""
    return after.model_dump(mode="json"), []


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> Request:
    """The request behind a document."""
    return Request.model_validate(doc)
