"""CloudEvents 1.0.2 on Kafka and over HTTP, binary and structured JSON, as CONTRACT "Envelope" narrows it.

Everything read here is held to the contract: an `Event` that came out of `from_...` may be stored and
forwarded. An `Event` built by hand is taken as it is.

Sources: CloudEvents 1.0.2 (specification, JSON format, Kafka and HTTP bindings), verifiability extension.
"""

import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from qalqan import instants, jsontext

SPEC_VERSION = "1.0"
JSON = "application/json"
STRUCTURED_JSON = "application/cloudevents+json"

_CORE = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time")
_NAME = re.compile(r"[a-z0-9]+")  # specification, "Naming conventions"
_ID = re.compile(r"[ -~]{1,128}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
# Specification, "Type system", String: no control characters, surrogates or noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HTTP_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_INTEGERS = range(-(2**31), 2**31)  # specification, "Type system", Integer


class BadEnvelope(ValueError):
    """Not an event of the contract; str() says what and where, for a person, in ASCII."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its attributes as they came, the exact bytes of its data (`specversion` is always 1.0)."""

    id: str
    source: str
    type: str
    subject: str | None
    time: str | None
    datacontenttype: str | None
    data: bytes
    dataschema: str | None = None
    dssematerial: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)


def from_kafka(key: bytes | None, headers: Sequence[tuple[str, bytes | None]], value: bytes | None) -> Event:
    """The event of a Kafka record, in binary or structured JSON mode.

    A header name that is not UTF-8 arrives with lone surrogates (decoded with `surrogateescape`). The key
    belongs to the record, not to the event: whether it equals the subject is for the caller to check.
    Raises BadEnvelope.
    """
    texts: dict[str, str] = {}
    for name, raw in headers:
        if name in texts:
            raise BadEnvelope(f"header {_shown(name)}: stands twice")
        if raw is None:
            raise BadEnvelope(f"header {_shown(name)}: null")
        try:
            name.encode()
            texts[name] = raw.decode()
        except UnicodeError:
            raise BadEnvelope(f"header {_shown(name)}: name or value is not UTF-8") from None
    if value is None:
        raise BadEnvelope("value: missing")
    content_type = texts.get("content-type")
    if _is_structured(content_type):
        return _from_structured_bytes(value)
    attributes = {name[3:]: text for name, text in texts.items() if name.startswith("ce_")}
    return _from_binary(attributes, content_type, value)


def to_kafka(event: Event) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the event's record, in binary mode.

    The key is `partitionkey`, else the subject; raises BadEnvelope when there is neither.
    """
    key = event.extensions.get("partitionkey") or event.subject
    if key is None:
        raise BadEnvelope("subject: missing")
    headers = [
        ("content-type" if name == "datacontenttype" else f"ce_{name}", text.encode())
        for name, text in _attributes(event).items()
    ]
    return key.encode(), event.data, headers


def from_http(headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes) -> Event:
    """The event of an HTTP message, in binary or structured JSON mode.

    Headers may come as pairs, or as a mapping whose `items()` repeats a name that was sent twice (as
    Starlette's does); only `content-type` and `ce-*` are looked at. Raises BadEnvelope.
    """
    content_type: str | None = None
    attributes: dict[str, str] = {}
    for name, text in headers.items() if isinstance(headers, Mapping) else headers:
        name = name.lower()
        if name == "content-type":
            if content_type is not None:
                raise BadEnvelope("header content-type: stands twice")
            content_type = text
        elif name.startswith("ce-"):
            if name[3:] in attributes:
                raise BadEnvelope(f"header {_shown(name)}: stands twice")
            attributes[name[3:]] = _from_header(name, text)
    if _is_structured(content_type):
        return _from_structured_bytes(body)
    return _from_binary(attributes, content_type, body)


def to_http(event: Event) -> tuple[dict[str, str], bytes]:
    """Headers and body of the event in binary mode, values percent-encoded (HTTP binding 3.1.3.2)."""
    headers = {
        "content-type" if name == "datacontenttype" else f"ce-{name}": quote(text, safe=_HTTP_SAFE)
        for name, text in _attributes(event).items()
    }
    return headers, event.data


def from_structured(obj: object) -> Event:
    """The event of a parsed JSON object in the JSON format, which must carry `data_base64`.

    Extensions may be JSON booleans or integers and become their canonical strings. Raises BadEnvelope.
    """
    if not isinstance(obj, dict):
        raise BadEnvelope("not a JSON object")
    members = {name: value for name, value in obj.items() if value is not None}
    if "data" in members:
        raise BadEnvelope("data: a structured event carries its data in data_base64")
    encoded = members.pop("data_base64", None)
    if not isinstance(encoded, str):
        raise BadEnvelope("data_base64: missing, or not a string")
    try:
        data = from_base64(encoded)
    except ValueError as error:
        raise BadEnvelope(f"data_base64: {error}") from None
    return _checked({name: _text(name, value) for name, value in members.items()}, data)


def to_structured(event: Event) -> dict[str, Any]:
    """The event in the JSON format, with `data_base64`; `from_structured` gives the same event back."""
    return {**_attributes(event), "data_base64": to_base64(event.data)}


def core_digest(event: Event) -> bytes:
    """The 32 bytes that stand for the core attributes and the data (verifiability extension, CORE_DIGEST).

    Raises ValueError when `time` is not RFC 3339.
    """
    time = "" if event.time is None else instants.utc_seconds(event.time)
    digests = (
        sha256(event.id.encode()).digest(),
        _text_digest(event.source),
        _text_digest(SPEC_VERSION),
        _text_digest(event.type),
        _text_digest(event.datacontenttype or ""),
        _text_digest(event.dataschema or ""),
        _text_digest(event.subject or ""),
        sha256(time.encode()).digest(),
        sha256(event.data).digest(),
    )
    return sha256(b"".join(digests)).digest()


def from_base64(text: str) -> bytes:
    """The bytes of padded standard base64 (RFC 4648 section 4), canonically spelled. Raises ValueError."""
    try:
        raw = a2b_base64(text)
    except ValueError:
        raw = b""
    # The decoder skips strange characters and spare bits: only what it would write itself is taken.
    if to_base64(raw) != text:
        raise ValueError("not padded standard base64")
    return raw


def to_base64(raw: bytes) -> str:
    """Padded standard base64, without line breaks."""
    return b2a_base64(raw, newline=False).decode()


def _is_structured(content_type: str | None) -> bool:
    """Kafka and HTTP bindings, section 3: told apart by the media type's prefix, in any case of letters."""
    if content_type is None or not content_type.lower().startswith("application/cloudevents"):
        return False
    if content_type.partition(";")[0].strip().lower() != STRUCTURED_JSON:
        raise BadEnvelope(f"content-type: {_shown(content_type)} is not {STRUCTURED_JSON}")
    return True


def _from_structured_bytes(data: bytes) -> Event:
    try:
        obj = jsontext.parse(data, max_string=None)
    except jsontext.BadData as error:
        raise BadEnvelope(f"structured event: {error}") from None
    return from_structured(obj)


def _from_binary(attributes: dict[str, str], content_type: str | None, data: bytes) -> Event:
    if "datacontenttype" in attributes:
        raise BadEnvelope("datacontenttype: stands in the header content-type, and nowhere else")
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    return _checked(attributes, data)


def _checked(attributes: dict[str, str], data: bytes) -> Event:
    """The event of these attributes (all text), if each is as CONTRACT "Envelope" wants it."""
    for name, text in attributes.items():
        if not _NAME.fullmatch(name) or name == "data":
            raise BadEnvelope(f"{_shown(name)}: not an attribute's name (lower-case letters and digits)")
        if not text:
            raise BadEnvelope(f"{name}: empty")
        if not (text.isascii() and text.isprintable()) and _FORBIDDEN.search(text):
            raise BadEnvelope(f"{name}: holds a control character, a surrogate or a noncharacter")
    take = attributes.pop
    version = take("specversion", None)
    if version != SPEC_VERSION:
        raise _unlike("specversion", version, SPEC_VERSION)
    event_id = take("id", None)
    if event_id is None or not _ID.fullmatch(event_id):
        raise _unlike("id", event_id, "1 to 128 printable ASCII characters")
    source = take("source", None)
    if source is None or not _URI.fullmatch(source):
        raise _unlike("source", source, "a URI")
    event_type = take("type", None)
    if event_type is None:
        raise BadEnvelope("type: missing")
    subject = take("subject", None)
    if subject is None:
        raise BadEnvelope("subject: missing")
    content_type = take("datacontenttype", None)
    if content_type != JSON:
        raise _unlike("datacontenttype", content_type, JSON)
    schema = take("dataschema", None)
    if schema is not None and not _URI.fullmatch(schema):
        raise _unlike("dataschema", schema, "a URI")
    time = take("time", None)
    if time is not None:
        try:
            instants.utc_seconds(time)
        except ValueError as error:
            raise BadEnvelope(f"time: {error}") from None
    signed = take("dssematerial", None)
    return Event(event_id, source, event_type, subject, time, content_type, data, schema, signed, attributes)


def _attributes(event: Event) -> dict[str, str]:
    """All attributes that the event has, by name."""
    optional = {
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": event.datacontenttype,
        "dataschema": event.dataschema,
        "dssematerial": event.dssematerial,
    }
    return {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        **{name: text for name, text in optional.items() if text is not None},
        **event.extensions,
    }


def _text(name: str, value: object) -> str:
    """A structured event's attribute as its canonical string (specification, "Type system")."""
    if isinstance(value, str):
        return value
    if name in _CORE or name == "dssematerial":
        raise BadEnvelope(f"{name}: not a string")
    if isinstance(value, bool) or (isinstance(value, int) and value in _INTEGERS):
        return json.dumps(value)
    raise BadEnvelope(f"{_shown(name)}: neither a string nor a boolean nor a 32-bit integer")


def _from_header(name: str, text: str) -> str:
    """HTTP binding 3.1.3.2: unquoted, then percent-decoded once, as strict UTF-8."""
    if not (text.isascii() and text.isprintable()):
        raise BadEnvelope(f"header {_shown(name)}: not printable ASCII (anything else is percent-encoded)")
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(text).decode() if "%" in text else text
    except UnicodeDecodeError:
        raise BadEnvelope(f"header {_shown(name)}: percent-encoding is not UTF-8") from None


def _text_digest(text: str) -> bytes:
    # Few values make up nearly all traffic; what is long is not kept, so that nobody can fill the memory.
    return _kept_digest(text) if len(text) <= 200 else sha256(text.encode()).digest()


@lru_cache(maxsize=4096)
def _kept_digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _unlike(name: str, value: str | None, wanted: str) -> BadEnvelope:
    return BadEnvelope(f"{name}: missing" if value is None else f"{name}: {_shown(value)} is not {wanted}")


def _shown(text: str) -> str:
    """A stranger's text for a message: quoted, ASCII, not long."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
