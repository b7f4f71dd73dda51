"""Instants and durations as they stand in events (CONTRACT, "Identifiers and forms").

Data carries instants in one form only, RFC 3339 in UTC with `Z`. The envelope's `time` may have any RFC 3339
offset and precision; `utc_seconds` gives the form of it that is signed. Kafka's log times are milliseconds.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")
# RFC 3339 section 5.6: T and Z may be in lower case.
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:)([0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DURATION = re.compile(
    r"P(?=.)(?:([0-9]{1,9})D)?"
    r"(?:T(?=.)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)S)?)?"
)


def parse_instant(text: str) -> datetime:
    """An instant of the data: RFC 3339, UTC, `Z`; what is finer than a microsecond is cut off.

    Raises ValueError for any other form and for what no calendar has, leap seconds among it.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"not an instant in UTC such as 2023-02-06T01:17:34Z: {text[:40]!a}")
    return datetime.fromisoformat(text)


def format_instant(instant: datetime) -> str:
    """The same instant as text in UTC, with milliseconds (cut off, not rounded) when it has any.

    Raises ValueError for a datetime without a time zone.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return text.removesuffix(".000") + "Z"


def from_millis(milliseconds: int) -> datetime:
    """The instant of a Kafka timestamp (milliseconds since 1970), exactly."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def to_millis(instant: datetime) -> int:
    """Whole milliseconds since 1970, cut off towards the past."""
    return (instant - _EPOCH) // _MILLISECOND


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration of days, hours, minutes and seconds: `PT24H`, `P3DT6H`, `PT0.5S`.

    Raises ValueError for anything else; months and years have no fixed length and are refused.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"not a duration such as PT24H: {text[:40]!a}")
    days, hours, minutes, seconds = found.groups(default="0")
    try:
        return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    except OverflowError as error:
        raise ValueError(f"a duration beyond all calendars: {text}") from error


def utc_seconds(text: str) -> str:
    """An RFC 3339 timestamp of any offset as `YYYY-MM-DDTHH:MM:SSZ`, the fraction cut off.

    This is the form of `time` that is signed (CloudEvents verifiability, "Canonical Value Serialization").
    A leap second keeps its 60 and must be the last second of a month in UTC (RFC 3339 section 5.7).
    Raises ValueError for another form, a date or offset that does not exist, and years outside 1 to 9999.
    """
    # Read when an envelope is taken and when its digest is made; what is long is not kept: nobody fills the memory.
    return _kept_seconds(text) if len(text) <= _USUAL_LENGTH else _seconds(text)


def _seconds(text: str) -> str:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError(f"not RFC 3339: {text[:40]!a}")
    date, minutes, seconds, offset = found.groups()
    leap = seconds == "60"
    try:
        local = datetime.fromisoformat(f"{date}T{minutes}{'59' if leap else seconds}{offset.upper()}")
        instant = local.astimezone(UTC)
        if leap and ((instant + _SECOND).time() != datetime.min.time() or (instant + _DAY).day != 1):
            raise ValueError("no leap second can stand there")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such time: {text[:40]!a} ({error})") from error
    whole = instant.isoformat(timespec="seconds").removesuffix("+00:00")
    return (whole[:-2] + "60" if leap else whole) + "Z"


_USUAL_LENGTH = 40
_kept_seconds = lru_cache(maxsize=1024)(_seconds)
