"""What goes wrong inside JSON: trees with something nasty in them, and texts that are no longer what they were."""

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

Tree = dict[str, Any]

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 10, 1.0, 0.5, -0.0, 1e20, 2**31 - 1, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63, 10**400,
    float("nan"), float("inf"), "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202e\u2066", "\ufeff", "\uffff",
    "İIıi", "e\u0301", "𝔘" * 5_000, "x" * 20_000, "x" * 20_001, "'; drop table lane; --", "%s%n{0}${x}", "../../etc",
    "1", "-1", "NaN", "null", "2023-02-30T00:00:00Z", "2023-02-06T23:59:60Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "2023-02-06T01:17:34.123456789Z", "2023-02-06T01:17:34+25:00", "sha256:" + "0" * 64,
    [], {}, [None], [[[]]], {"": None}, {"amount": "-1.00", "currency": "USD"}, {"amount": "1e9", "currency": "usd"},
    ["N1", "N1"], ["N1"] * 500, {"__proto__": 1, "constructor": {}}, "other", "person", "t", "TRNC", "TR", "EUR",
)  # fmt: skip
"""Values that somebody, somewhere, forgets."""


def nested(levels: int, opening: str = "[") -> str:
    """Brackets in brackets, closed again."""
    closing = "]" if opening == "[" else "1}"
    return opening * levels + closing * levels


def spoilt_tree(rng: Random, tree: Tree) -> Tree:
    """The same data with one thing changed: a value replaced, moved, left out, doubled, or one more."""
    changed = copy.deepcopy(tree)
    places = list(_places(changed))
    where, name = rng.choice(places)
    match rng.randrange(6):
        case 0 | 1:
            where[name] = copy.deepcopy(rng.choice(NASTY))
        case 2:
            del where[name]
        case 3:
            other, another = rng.choice(places)
            where[name] = copy.deepcopy(other[another])
        case 4 if isinstance(where[name], int):
            where[name] += rng.choice((-1, 1, 1_000, 2**31, 2**52))
        case 4 if isinstance(where[name], list):
            where[name] = where[name] * rng.choice((2, 100))
        case _ if isinstance(where, dict):
            where[rng.choice(("later", "", "Ä", "request_id ", "by", "mandate"))] = copy.deepcopy(rng.choice(NASTY))
        case _:
            where.append(copy.deepcopy(rng.choice(NASTY)))
    return changed


def _places(value: Any) -> Any:
    """Every (container, key) of a tree."""
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, name
        if isinstance(member, dict | list):
            yield from _places(member)


def spelled(rng: Random, tree: Any) -> bytes:
    """JSON text of a tree, in one of the ways JSON may be written (surrogates and NaN as they come)."""
    indent = rng.choice((None, None, None, 0, 3))
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5, indent=indent)
    return text.encode("utf-8", "surrogatepass")


def _name_twice(rng: Random, text: bytes) -> bytes:
    names = list(re.finditer(rb'"[A-Za-z_]+": ?', text))
    if not names:
        return text
    name = rng.choice(names)
    return text[: name.start()] + name[0] + b"1," + text[name.start() :]


def _member(text: str) -> Callable[[Random, bytes], bytes]:
    def insert(_: Random, data: bytes) -> bytes:
        return data.replace(b"{", b'{"later":' + text.encode() + b",", 1)

    return insert


def flipped(rng: Random, data: bytes) -> bytes:
    """One byte other."""
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def cut(rng: Random, data: bytes) -> bytes:
    """A piece is missing."""
    if not data:
        return data
    start = rng.randrange(len(data))
    return data[:start] + data[min(len(data), start + rng.choice((1, 2, 10, len(data)))) :]


def _repeated(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start : start + rng.randrange(1, 50)] * 2 + data[start:]


TEXTS: tuple[Callable[[Random, bytes], bytes], ...] = (
    flipped,
    cut,
    _repeated,
    _name_twice,
    _member(nested(31)),
    _member(nested(32)),
    _member(nested(31, '{"a":')),
    _member(nested(40, '{"a":')),
    _member("1e999"),
    _member("-1e-999"),
    _member("9" * 5_000),
    _member("0." + "9" * 5_000),
    _member("NaN"),
    _member("01"),
    _member(r'"\ud83d"'),
    _member(r'"\u0000"'),
    _member(r'"\x"'),
    _member('"' + "\\u00e7" * 20_001 + '"'),
    lambda _, data: b"\xef\xbb\xbf" + data,
    lambda _, data: data.decode("utf-8", "replace").encode("utf-16"),
    lambda _, data: b" \n\t" + data + b"\r\n",
    lambda _, data: data + b"{}",
    lambda _, data: b"[" + data + b"]",
    lambda _, data: b"[" * 50_000,
    lambda _, data: b'{"a":' * 50_000,
    lambda _, data: b"",
    lambda _, data: data.replace(b":", b" : ").replace(b"}", b",}", 1),
    lambda _, data: b"\xff" + data,
)
"""What can be done to a JSON text."""
