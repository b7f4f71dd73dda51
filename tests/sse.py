"""Server-sent events as a stranger reads them (WHATWG HTML, "Interpreting an event stream")."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2


async def events(answer: httpx2.Response) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """The `id` and the JSON of each event of an answer, as they come; an `id` alone is no event."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield int(fields["id"]), json.loads(fields.pop("data"))
