"""How the register is stored: one small document a request, and its content as a part."""

from collections.abc import Mapping
from typing import Any

from services.request.domain import Request

_CONTENT = "content"


def split(before: Request | None, after: Request) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The document of a request, and its content when that is new."""
    is_new = before is None or before.content is not after.content
    parts = [(_CONTENT, after.content.model_dump(mode="json"))] if is_new else []
    return after.model_dump(mode="json", exclude={_CONTENT}), parts


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> Request:
    """The request behind a document and its content."""
    return Request.model_validate({**doc, _CONTENT: parts[_CONTENT]})
