"""A rejection as those who run the system see it: the reason, and what was submitted, as text. Pure."""

import json
from base64 import b64decode

from pydantic import BaseModel, Field, ValidationError

from qalqan.envelope import Event
from qalqan.events import Reason, SubmissionRejected, type_of
from qalqan.fields import Instant
from services.notify.domain.entry import Entry

REJECTED = type_of("SubmissionRejected")


class Original(BaseModel):
    """The record as it was submitted; bytes that are no UTF-8 are U+FFFD."""

    key: str | None
    headers: list[tuple[str, str | None]]
    value: str | None


class Rejection(BaseModel):
    """A submission that was refused. `original` is null for `too-large`."""

    seq: int = Field(description="The number of the rejection in the stream")
    at: Instant = Field(description="When the rejection was stated")
    source_topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    original: Original | None


def reason_of(event: Event) -> str | None:
    """The reason, where the event is a rejection."""
    if event.type != REJECTED:
        return None
    try:
        return SubmissionRejected.model_validate_json(event.data).reason
    except ValidationError:
        return None  # only a service may write there, and none writes that


def rejection(entry: Entry) -> Rejection:
    """What a `SubmissionRejected` in the stream says."""
    event = entry.event
    said = SubmissionRejected.model_validate_json(b64decode(event["data_base64"]))
    return Rejection(
        seq=entry.seq,
        at=event["appendedtime"],
        source_topic=said.source_topic,
        partition=said.partition,
        offset=said.offset,
        reason=said.reason,
        detail=said.detail,
        original=None if said.original_base64 is None else _original(said.original_base64),
    )


def _original(base64: str) -> Original | None:
    """None: no service of ours wrote that."""
    try:
        record = json.loads(b64decode(base64))
        headers = [(name, _text(value)) for name, value in record["headers"]]
        return Original(key=_text(record["key"]), headers=headers, value=_text(record["value"]))
    except (ValueError, TypeError, KeyError):
        return None


def _text(base64: str | None) -> str | None:
    return None if base64 is None else b64decode(base64).decode("utf-8", "replace")
