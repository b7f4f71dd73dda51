from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qalqan.instants import format_instant, from_millis, parse_duration, parse_instant, to_millis, utc_seconds

AWARE = st.datetimes(
    datetime(2, 1, 1),
    datetime(9998, 12, 31),
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(AWARE)
def test_an_instant_comes_back_to_the_millisecond(instant: datetime) -> None:
    text = format_instant(instant)
    assert text.endswith("Z")
    assert timedelta(0) <= instant - parse_instant(text) < timedelta(milliseconds=1)
    assert format_instant(parse_instant(text)) == text


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_millis_come_back_exactly(milliseconds: int) -> None:
    assert to_millis(from_millis(milliseconds)) == milliseconds
    assert to_millis(parse_instant(format_instant(from_millis(milliseconds)))) == milliseconds


def test_the_forms_of_an_instant() -> None:
    assert parse_instant("2023-02-06T01:17:34Z") == datetime(2023, 2, 6, 1, 17, 34, tzinfo=UTC)
    assert (
        format_instant(datetime(2023, 2, 6, 4, 17, 34, tzinfo=timezone(timedelta(hours=3)))) == "2023-02-06T01:17:34Z"
    )
    assert format_instant(parse_instant("2023-02-06T01:17:34.123999Z")) == "2023-02-06T01:17:34.123Z"
    assert format_instant(parse_instant("2023-02-06T01:17:34.0000000001Z")) == "2023-02-06T01:17:34Z"
    assert format_instant(datetime(33, 1, 1, tzinfo=UTC)) == "0033-01-01T00:00:00Z"
    with pytest.raises(ValueError, match="time zone"):
        format_instant(datetime(2023, 2, 6))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-02-06T01:17:34",
        "2023-02-06T01:17:34+00:00",
        "2023-02-06T04:17:34+03:00",
        "2023-02-06t01:17:34z",
        "2023-02-06 01:17:34Z",
        "2023-02-06T01:17Z",
        "2023-02-06",
        "20230206T011734Z",
        "2023-W06-1T01:17:34Z",
        "2023-02-29T00:00:00Z",
        "2023-02-06T24:00:00Z",
        "2023-02-06T01:17:60Z",
        "2016-12-31T23:59:60Z",
        "2023-02-06T01:17:34.Z",
        "2023-02-06T01:17:34Z\n",
        "٢٠٢٣-02-06T01:17:34Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_other_forms_of_an_instant_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_instant(text)


@given(AWARE)
def test_signed_seconds_are_the_same_instant_cut_off(instant: datetime) -> None:
    signed = utc_seconds(instant.isoformat())
    assert timedelta(0) <= instant - parse_instant(signed) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("2026-05-13T10:49:12.123456+01:00", "2026-05-13T09:49:12Z"),
        ("2026-05-13T09:49:12.999Z", "2026-05-13T09:49:12Z"),
        ("2020-06-18t19:24:53+02:00", "2020-06-18T17:24:53Z"),
        ("2020-06-18T17:24:53z", "2020-06-18T17:24:53Z"),
        ("2020-06-18T17:24:53-00:00", "2020-06-18T17:24:53Z"),
        ("2020-06-18T17:24:53.12345678901234567890Z", "2020-06-18T17:24:53Z"),
        ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
        ("1990-12-31T15:59:60.5-08:00", "1990-12-31T23:59:60Z"),  # RFC 3339 section 5.8
    ],
)
def test_signed_seconds(text: str, signed: str) -> None:
    assert utc_seconds(text) == signed


@pytest.mark.parametrize(
    "text",
    [
        "2020-06-18T17:24:53",
        "2020-06-18 17:24:53Z",
        "2020-06-18T17:24Z",
        "2020-06-18T17:24:53+0200",
        "2020-06-18T17:24:53+24:00",
        "2020-02-30T17:24:53Z",
        "2020-06-18T25:24:53Z",
        "2020-06-18T17:24:61Z",
        "2020-06-18T17:24:60Z",
        "2020-06-18T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:60Z",
        "2020-06-18T17:24:53Z ",
        "२020-06-18T17:24:53Z",
    ],
)
def test_what_is_not_rfc_3339_or_not_in_the_calendar_has_no_signed_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|no such time"):
        utc_seconds(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("PT24H", timedelta(hours=24)),
        ("PT6H", timedelta(hours=6)),
        ("P3D", timedelta(days=3)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("PT0S", timedelta(0)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "24H", "P1M", "P1Y", "P1W", "-PT1H", "PT1,5S", "PT1H ", "P999999999DT24H"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
