import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from qalqan.jsontext import MAX_INTEGER, BadData, canonical, digest, digest_of, parse

NUMBERS = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(-MAX_INTEGER, MAX_INTEGER)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5)


def nested(levels: int) -> bytes:
    """An object with arrays in it, `levels` containers deep."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_what_is_within_the_limits_is_read_as_it_is(obj: dict[str, Any], escaped: bool, indent: int | None) -> None:
    assert parse(json.dumps(obj, ensure_ascii=escaped, indent=indent).encode()) == obj


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # encoding and syntax
        (b"", "$: not JSON"),
        (b"\xef\xbb\xbf{}", "$: starts with a byte order mark"),
        (b'{"a":"\xff"}', "$: not UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "$: not UTF-8"),  # a surrogate in UTF-8's clothes
        (b'{"a":"\xc0\x80"}', "$: not UTF-8"),  # U+0000, overlong
        ('{"a":1}'.encode("utf-16"), "$: not UTF-8"),
        ('{"a":1}'.encode("utf-16-be"), "$: not JSON"),
        (b'{"a":1}{', "$: not JSON"),
        (b'{"a":1,}', "$: not JSON"),
        (b"{'a':1}", "$: not JSON"),
        (b'{"a":01}', "$: not JSON"),
        (b'{"a":+1}', "$: not JSON"),
        (b'{"a":.5}', "$: not JSON"),
        ('{"a":٣}'.encode(), "$: not JSON"),  # a digit of another script
        (b'{"a":"\n"}', "$: not JSON"),
        (b'{"a":"\\u12"}', "$: not JSON"),
        (b'{"a":1 /* */}', "$: not JSON"),
        (b'\xc2\xa0{"a":1}', "$: not JSON"),
        # the top
        (b"[]", "$: not a JSON object"),
        (b'"{}"', "$: not a JSON object"),
        (b"null", "$: not a JSON object"),
        (b"1e999", "$: not a finite number"),
        # names
        (b'{"a":1,"a":1}', '$: the name "a" stands twice'),
        (b'{"a":1,"\\u0061":2}', '$: the name "a" stands twice'),
        (b'{"b":[{"c":{"a":1,"a":1}}]}', '$.b[0].c: the name "a" stands twice'),
        # numbers
        (b'{"a":9007199254740992}', "$.a: integer beyond 2^53-1"),
        (b'{"a":-9007199254740992}', "$.a: integer beyond 2^53-1"),
        (b'{"a":' + b"9" * 100_000 + b"}", "$.a: integer beyond 2^53-1"),
        (b'{"a":9007199254740992.0}', "$.a: integer beyond 2^53-1"),
        (b'{"a":1e20}', "$.a: integer beyond 2^53-1"),
        (b'{"a":1e400}', "$.a: not a finite number"),
        (b'{"a":-1e400}', "$.a: not a finite number"),
        (b'{"a":NaN}', "$.a: NaN is not a finite number"),
        (b'{"a":-Infinity}', "$.a: -Infinity is not a finite number"),
        (b'{"needs":[{},{},{"quantity":9007199254740993}]}', "$.needs[2].quantity: integer beyond 2^53-1"),
        (b'{"a b":1e400}', '$["a b"]: not a finite number'),
        (b'{"a":1e400,"b":}', "$: not JSON"),  # found only when looking for the number's place
        # strings
        (b'{"a":["\\u0000"]}', "$.a[0]: holds U+0000"),
        (b'{"\\u0000":1}', "$: a name: holds U+0000"),
        (b'{"a":"\\ud800"}', "$.a: holds a lone surrogate"),
        (b'{"a":"\\uDFFF"}', "$.a: holds a lone surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "$.a: holds a lone surrogate"),
        (b'{"\\uD800":1}', "$: a name: holds a lone surrogate"),
        (b'{"a":"' + b"x" * 20_001 + b'"}', "$.a: longer than 20000 characters"),
        (b'{"' + b"x" * 20_001 + b'":1}', "$: a name: longer than 20000 characters"),
        # depth
        (nested(33), "$: nested deeper than 32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "$: nested deeper than 32 levels"),
        (b"[" * 50_000, "$: nested deeper than 32 levels"),
        (b'{"a":' * 50_000, "$: nested deeper than 32 levels"),
        (b'{"b":"]]]]]]","a":' + b"[" * 32 + b"]" * 32 + b"}", "$: nested deeper than 32 levels"),
        (b'{"a":"\\"","b":' + b"[" * 32 + b"]" * 32 + b"}", "$: nested deeper than 32 levels"),
    ],
)
def test_what_breaks_a_limit_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(BadData) as refused:
        parse(data)
    assert str(refused.value).startswith(message)
    assert str(refused.value).isascii()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b" \r\n\t{}\n", {}),
        (b'{"a":9007199254740991,"b":-9007199254740991}', {"a": MAX_INTEGER, "b": -MAX_INTEGER}),
        (b'{"a":9007199254740991.0,"b":1E2,"c":-0,"d":-0.0}', {"a": MAX_INTEGER, "b": 100, "c": 0, "d": 0}),
        (b'{"a":1e-400}', {"a": 0.0}),
        (b'{"a":"\\ud83d\\ude80"}', {"a": "🚀"}),
        (b'{"a":"\\\\u0000\\\\ud800"}', {"a": r"\u0000\ud800"}),
        (b'{"":{"a":{"a":1}}}', {"": {"a": {"a": 1}}}),
    ],
)
def test_the_edges_are_taken(data: bytes, value: dict[str, Any]) -> None:
    assert parse(data) == value


def test_32_levels_and_20_000_characters_are_taken() -> None:
    assert parse(nested(32))
    assert len(parse(b'{"a":"' + b"x" * 20_000 + b'"}')["a"]) == 20_000
    assert len(parse(b'{"a":"' + "қ".encode() * 20_000 + b'"}')["a"]) == 20_000
    assert len(parse(b'{"a":"' + b"\\u049b" * 20_000 + b'"}')["a"]) == 20_000


def test_many_brackets_side_by_side_or_in_strings_are_not_depth() -> None:
    assert len(parse(b'{"a":[' + b"{}," * 5_000 + b"{}]}")["a"]) == 5_001
    assert parse(b'{"a":"' + b"[{" * 5_000 + b'\\"[["}')
    assert parse(b'{"a":"' + b"\\\\" * 50 + b'","b":"' + b"[" * 50 + b'"}')


def test_longer_strings_are_taken_where_the_caller_allows_them() -> None:
    assert len(parse(b'{"a":"' + b"x" * 30_000 + b'"}', max_string=None)["a"]) == 30_000
    with pytest.raises(BadData, match="U\\+0000"):
        parse(b'{"a":"' + b"x" * 30_000 + b'\\u0000"}', max_string=None)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        obj = parse(data)
    except BadData:
        return
    assert type(obj) is dict


@given(st.lists(st.sampled_from(list('{}[]",:\\u0d8a1eE-')), max_size=120).map("".join))
def test_any_mixture_of_json_tokens_is_read_or_refused(text: str) -> None:
    try:
        obj = parse(text.encode())
    except BadData:
        return
    assert parse(canonical(obj)) == obj


@given(OBJECTS)
def test_the_canonical_form_is_one_and_can_be_read_again(obj: dict[str, Any]) -> None:
    form = canonical(obj)
    assert parse(form) == obj
    assert canonical(parse(form)) == form
    assert canonical(dict(reversed(obj.items()))) == form


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_quick_way_to_the_canonical_form_is_the_librarys(obj: Any) -> None:
    """What has no floats and only ASCII names goes through the C encoder of `json`: the same bytes."""
    assert canonical(obj) == rfc8785.dumps(obj)


def test_canonical_form_of_names_strings_and_numbers() -> None:
    # RFC 8785 section 3.2.3: names in the order of their UTF-16 units, so an emoji before U+FB33.
    assert canonical({"\ufb33": 1, "😂": 2, "\r": 3, "1": 4}) == '{"\\r":3,"1":4,"😂":2,"\ufb33":1}'.encode()
    assert canonical({"a": "\u20ac$\u000f\nA'B\"\\\u007f"}) == '{"a":"€$\\u000f\\nA\'B\\"\\\\\u007f"}'.encode()
    # RFC 8785 appendix B: the ECMAScript form of numbers.
    assert canonical([1.0, -0.0, 4.5, 2e-3, 1e-27, 333333333.33333329]) == b"[1,0,4.5,0.002,1e-27,333333333.3333333]"


@pytest.mark.parametrize("value", [2**53, math.nan, math.inf, "\ud800", {"\ud800": 1}, {1: 2}, b"x", {1}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's
        canonical(value)


def test_digests() -> None:
    # FIPS 180-2, appendix B.1.
    assert digest(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of({"b": 1.0, "a": None}) == digest(b'{"a":null,"b":1}')
