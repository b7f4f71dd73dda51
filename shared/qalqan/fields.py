"""The forms of CONTRACT "Identifiers and forms", as pydantic types."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from qalqan.catalogue import CAPABILITIES, CURRENCIES, UNITS
from qalqan.instants import format_instant, parse_duration, parse_instant
from qalqan.jsontext import Settled


class Model(BaseModel):
    """Base of all contract data: immutable, strict (no coercion), unknown fields ignored (fields may be added)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """The JSON text that states it."""
        return self.model_dump_json(by_alias=True).encode()


def _instant(value: object) -> datetime:
    if isinstance(value, str):
        value = parse_instant(value)
    if not isinstance(value, datetime):
        raise ValueError("an instant is a text such as 2023-02-06T01:17:34Z")
    # Milliseconds, as we write them: what is finer would not survive a rebuild from the topics.
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration is a text such as PT24H")
    return parse_duration(value)


def _format_duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = f"{hours}H" * bool(hours) + f"{minutes}M" * bool(minutes) + f"{seconds}S" * bool(seconds)
    return "PT" + (parts or "0S")


def _known(codes: Collection[str], otherwise: str) -> AfterValidator:
    """A check of codes; `otherwise` completes the sentence about one that is none of them."""

    def check(value: str) -> str:
        if value not in codes:
            raise ValueError(f"{value!r} is {otherwise}")
        return value

    return AfterValidator(check)


def _enum(codes: Collection[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": sorted(codes)})


def _settled(value: object, validate: ValidatorFunctionWrapHandler) -> Settled:
    return value if isinstance(value, Settled) else Settled(validate(value))


JsonObject = Annotated[dict[str, Any], WrapValidator(_settled)]
"""An object taken as it came, fields of later versions too; immutable like the model it stands in (`Settled`)."""

Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"}),
]
"""RFC 3339, UTC, `Z`."""

Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_format_duration, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration"}),
]
"""ISO 8601."""

State = Annotated[str, Field(pattern=r"^[A-Z]{2,4}$")]
"""ISO 3166-1 alpha-2, or `TRNC`."""
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")]
"""Needs, pledges, units."""
RequestId = Annotated[str, Field(pattern=r"^[A-Z]{2,4}-[0-9]{4}-[A-Za-z0-9-]{1,40}$")]
"""`<affected state>-<year>-<local part>`."""
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Quantity = Annotated[int, Field(ge=1)]
Revision = Annotated[int, Field(ge=1)]
Capability = Annotated[str, _known(CAPABILITIES, "not in the catalogue of capabilities"), _enum(CAPABILITIES)]
_MEASURES = UNITS | CURRENCIES
Unit = Annotated[str, _known(_MEASURES, "neither a unit of the catalogue nor a currency's code"), _enum(_MEASURES)]
Currency = Annotated[str, _known(CURRENCIES, "no active currency's code of ISO 4217"), _enum(CURRENCIES)]


class Place(Model):
    """A place by name and country, with coordinates (degrees, WGS 84) and UN/LOCODE where known."""

    name: Text
    country: State
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    unlocode: Annotated[str, Field(pattern=r"^[A-Z]{2}[A-Z2-9]{3}$")] | None = None


class Money(Model):
    """An amount as a decimal text and its currency (ISO 4217)."""

    amount: Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,4})?$")]
    currency: Currency


class Mandate(Model):
    """The national act behind a request, pledge, acceptance or vote."""

    authority: Text
    act: Text
    digest: Digest | None = None
