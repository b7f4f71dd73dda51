"""JSON as it is taken from strangers, and as it is digested (CONTRACT, "Limits" and "Identifiers and forms").

Reading is strict, so that every reader in every language sees the same thing, and cheap, because it is done
for each message: one pass of the standard library's C scanner. Python code runs once for each object and
number; cheap looks at the raw bytes decide whether nesting and strings need a closer look at all.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import cached_property
from itertools import accumulate
from typing import Any, Never

import rfc8785

MAX_DEPTH = 32
MAX_STRING = 20_000
MAX_INTEGER = 2**53 - 1

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # the last one may lack its end: no rescans
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # may spell U+0000 or a surrogate
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadData(ValueError):
    """The data break a limit; str() says what and where (`$.needs[2].quantity: ...`), in ASCII."""


class _Flaw(ValueError):
    """A value beyond the limits, before anybody knows where it stands."""


def parse(data: bytes, max_string: int | None = MAX_STRING) -> dict[str, Any]:
    """The JSON object that `data` spells, under all limits of CONTRACT "Limits".

    UTF-8 without a byte order mark; depth 32 (the object itself is the first level); no name twice in an
    object; no U+0000 or lone surrogate; numbers finite, and those whose value is an integer (also `1e20`)
    within +-(2^53-1): RFC 8785 would write them as integers, which no reader may then take. `max_string` is
    the longest string or name, in characters (code points); None, for records that carry whole events in
    base64, lifts that limit alone. Raises BadData.
    """
    _check_depth(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadData(f"$: not UTF-8 at byte {error.start}") from None
    try:
        value = _STRICT.decode(text)
    except _Flaw as flaw:
        raise _located(text, flaw) from None
    except json.JSONDecodeError as error:
        raise _not_json(error) from None
    if type(value) is not dict:
        raise BadData("$: not a JSON object")
    if (max_string is not None and len(data) > max_string) or _SUSPECT.search(data):
        _check_values(value, "$", max_string)
    return value


_PLAIN = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def _is_plain(value: object) -> bool:
    """Whether the standard encoder, in C, writes RFC 8785 by itself: no floats, no long integers, names in ASCII.

    What a certificate is made of is; it is digested on the way from the last vote to the mobilisation.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if isinstance(value, dict):
        return all([type(name) is str and name.isascii() and _is_plain(member) for name, member in value.items()])  # noqa: C419  a list is walked in C, a generator is not
    if isinstance(value, list):
        return all([_is_plain(item) for item in value])  # noqa: C419  a list is walked in C, a generator is not
    return isinstance(value, int) and -MAX_INTEGER <= value <= MAX_INTEGER


class Settled(dict[str, Any]):
    """A JSON object that changes no more: its RFC 8785 form is made once, however often it stands in a larger one.

    A certificate consists of such objects; it is made on the way from the last vote to the mobilisation.
    """

    @cached_property
    def text(self) -> str:
        """Its RFC 8785 form. ValueError as `canonical`."""
        return _object_text(self)

    def __setitem__(self, name: str, value: object) -> Never:
        """TypeError: it is settled."""
        raise TypeError("a settled object does not change")

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        """An ordinary object, which may change."""
        return deepcopy(dict(self), memo)


def canonical(obj: object) -> bytes:
    """The RFC 8785 form.

    Raises ValueError for what has none: integers beyond 2^53-1, NaN, surrogates, other types.
    """
    return _text(obj).encode()


def _text(value: object) -> str:
    if isinstance(value, Settled):
        return value.text
    if isinstance(value, dict):
        return _object_text(value)
    if isinstance(value, list) and _holds_settled(value):
        return f"[{','.join([_text(item) for item in value])}]"
    return _leaf_text(value)


def _object_text(value: dict[str, Any]) -> str:
    if not _holds_settled(value.values()):
        return _leaf_text(value)
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))  # RFC 8785 section 3.2.3
    return f"{{{','.join([f'{_leaf_text(name)}:{_text(member)}' for name, member in members])}}}"


def _leaf_text(value: object) -> str:
    return _PLAIN.encode(value) if _is_plain(value) else rfc8785.dumps(value).decode()  # type: ignore[arg-type]


def _holds_settled(values: Iterable[object]) -> bool:
    for value in values:
        if isinstance(value, Settled):
            return True
        if isinstance(value, list | dict) and _holds_settled(value.values() if isinstance(value, dict) else value):
            return True
    return False


def digest(data: bytes) -> str:
    """`sha256:` and the lower-case hex of exactly these bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(obj: object) -> str:
    """The digest of a record of ours: over its RFC 8785 form. Raises ValueError as `canonical`."""
    return digest(canonical(obj))


def _check_depth(data: bytes) -> None:
    """Before anything recurses. Few brackets cannot nest deeply; else the real nesting is counted."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    steps = _STRING.sub(b"", data).translate(_STEPS, _NOT_BRACKETS)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise BadData(f"$: nested deeper than {MAX_DEPTH} levels")


def _not_json(error: json.JSONDecodeError) -> BadData:
    what = "starts with a byte order mark" if error.doc.startswith("\ufeff") else f"not JSON: {error.msg}"
    return BadData(f"$: {what} (line {error.lineno}, column {error.colno})")


def _located(text: str, flaw: _Flaw) -> BadData:
    """Read again, each flaw kept in its place, to be able to say where the first one stands."""
    try:
        _check_values(_EXPLAINING.decode(text), "$", None)
    except json.JSONDecodeError as error:
        return _not_json(error)
    except BadData as found:
        return found
    return BadData(f"$: {flaw}")


def _check_values(value: object, path: str, max_string: int | None) -> None:
    """Walk to the first flaw or bad string and raise BadData with its path; depth is bounded already."""
    if isinstance(value, str):
        _check_string(value, path, max_string)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_string(name, f"{path}: a name", max_string)
            _check_values(member, _member(path, name), max_string)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_values(item, f"{path}[{index}]", max_string)
    elif isinstance(value, _Flaw):
        raise BadData(f"{path}: {value}")


def _check_string(text: str, path: str, max_string: int | None) -> None:
    if max_string is not None and len(text) > max_string:
        raise BadData(f"{path}: longer than {max_string} characters")
    if "\0" in text:
        raise BadData(f"{path}: holds U+0000")
    if not text.isascii() and _SURROGATE.search(text):
        raise BadData(f"{path}: holds a lone surrogate")


def _member(path: str, name: str) -> str:
    return f"{path}.{_shown(name)}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{_shown(json.dumps(name))}]"


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Flaw(f"the name {_shown(json.dumps(twice))} stands twice")
    return members


def _integer(text: str) -> int:
    # Longer ones are too big whatever they are (JSON has no leading zeros): not worth a conversion.
    if len(text) > 17 or not -MAX_INTEGER <= (number := int(text)) <= MAX_INTEGER:
        raise _Flaw("integer beyond 2^53-1")
    return number


def _number(text: str) -> float:
    number = float(text)
    if not -MAX_INTEGER <= number <= MAX_INTEGER:
        # Every double of this size is an integer, or infinite.
        raise _Flaw("not a finite number" if math.isinf(number) else "integer beyond 2^53-1")
    return number


def _constant(text: str) -> Never:
    raise _Flaw(f"{text} is not a finite number")


def _in_place(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def reading(part: Any) -> Any:
        try:
            return read(part)
        except _Flaw as flaw:
            return flaw

    return reading


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)
_EXPLAINING = json.JSONDecoder(
    object_pairs_hook=_in_place(_object),
    parse_int=_in_place(_integer),
    parse_float=_in_place(_number),
    parse_constant=_in_place(_constant),
)
