"""What is wrong with data, said to a person."""

import re
from collections.abc import Iterator

from pydantic import ValidationError

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


def complaints(error: ValidationError, within: str = "") -> Iterator[str]:
    """A sentence for each flaw that pydantic found: `counted[3].recorded_at: not an instant in UTC ...`.

    `within` is the name of the whole that was validated; without it a path begins with its first field.
    """
    for flaw in error.errors(include_url=False, include_context=False, include_input=False):
        message = flaw["msg"].removeprefix("Value error, ")
        path = _path(within, flaw["loc"])
        yield f"{path}: {message}" if path else message


def why_unreadable(error: Exception) -> str:
    """Why a file cannot be used, in one line for a person who knows which file it is: the first flaw of many."""
    if isinstance(error, ValidationError):
        first, *others = complaints(error)
        return first + (f" (and {len(others)} more)" if others else "")
    return (isinstance(error, OSError) and error.strerror) or str(error)


def shown(text: str, limit: int = 80) -> str:
    """A stranger's text for a message: quoted, ASCII (no terminal takes it for a command), not long."""
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


def _path(within: str, location: tuple[int | str, ...]) -> str:
    path = within
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_NAME.fullmatch(part):
            path += f".{part}" if path else part
        else:
            path += f"[{shown(part)}]"
    return path
