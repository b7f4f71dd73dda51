"""Records with header names that are not UTF-8: aiokafka raises for ever; the bus reads them, and all around
them."""

import struct
import zlib
from collections.abc import Iterator

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from chassis.records import TolerantRecords

NONE, GZIP = _DefaultRecordBatchPy.CODEC_NONE, _DefaultRecordBatchPy.CODEC_GZIP
Row = tuple[bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]

GOOD: Row = (b"k", b"v", [(b"ce_id", b"1"), ("ce_Ж".encode(), None)])
BROKEN: Row = (b"k2", b"v2", [(b"ce_\xff\xfe", b"\xff"), (b"ce_id", b"2")])


def varint(number: int) -> bytes:
    """Zigzag, as in the record format of KIP-98."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes((*out, number))


def sized(part: bytes | None) -> bytes:
    return varint(-1) if part is None else varint(len(part)) + part


def batch(rows: list[Row], base_offset: int = 0, codec: int = NONE, log_append_time: int | None = None) -> bytes:
    """A record batch of magic 2 as a broker sends it, written here byte by byte: no client makes broken
    names."""
    body = b""
    for n, (key, value, headers) in enumerate(rows):
        record = b"\0" + varint(10 * n) + varint(n) + sized(key) + sized(value) + varint(len(headers))
        record += b"".join(sized(name) + sized(content) for name, content in headers)
        body += varint(len(record)) + record
    if codec == GZIP:
        gz = zlib.compressobj(wbits=31)
        body = gz.compress(body) + gz.flush()
    attributes = codec | (8 if log_append_time is not None else 0)
    last = 1_000 + 10 * (len(rows) - 1)
    rest = struct.pack(
        ">hiqqqhii",
        attributes,
        len(rows) - 1,
        1_000,
        last if log_append_time is None else log_append_time,
        -1,
        -1,
        -1,
        len(rows),
    )
    crc = calc_crc32c(rest + body)
    counted = struct.pack(">ibI", 0, 2, crc) + rest + body
    return struct.pack(">qi", base_offset, len(counted)) + counted


def read(
    buffer: bytes,
) -> Iterator[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    """All records of a fetch, as aiokafka's fetcher goes through them."""
    records = TolerantRecords(buffer)
    while records.has_next():
        found = records.next_batch()
        assert found is not None
        assert found.validate_crc()
        for record in found:
            yield record.offset, record.timestamp, record.key, record.value, list(record.headers)
        assert found.next_offset > 0
    assert records.next_batch() is None


def seen(row: Row) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    key, value, headers = row
    return key, value, [(name.decode("utf-8", "surrogateescape"), content) for name, content in headers]


def test_the_trap_is_there() -> None:
    """aiokafka as it is: the good records before the broken one are lost with it.

    Should this fail, the trap is gone.
    """
    (only,) = [MemoryRecords(batch([GOOD, BROKEN, GOOD])).next_batch()]
    with pytest.raises(Exception, match="utf-8"):
        list(only)


@pytest.mark.parametrize("codec", [NONE, GZIP])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_broken_name_costs_no_record(at: int, codec: int) -> None:
    rows = [GOOD, GOOD, GOOD]
    rows[at] = BROKEN
    assert [row[2:] for row in read(batch(rows, base_offset=40, codec=codec))] == [seen(row) for row in rows]
    assert [row[0] for row in read(batch(rows, base_offset=40, codec=codec))] == [40, 41, 42]


@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_batches_before_and_after(codec: int) -> None:
    buffer = batch([GOOD], 0) + batch([GOOD, BROKEN], 1, codec) + batch([BROKEN], 3) + batch([GOOD], 4, codec)
    assert [(row[0], row[2]) for row in read(buffer)] == [
        (0, b"k"),
        (1, b"k"),
        (2, b"k2"),
        (3, b"k2"),
        (4, b"k"),
    ]


@pytest.mark.parametrize("row", [GOOD, BROKEN])
def test_the_time_is_the_logs_where_the_log_says_so(row: Row) -> None:
    assert [found[1] for found in read(batch([row, row]))] == [1_000, 1_010]
    assert [found[1] for found in read(batch([row, row], log_append_time=5_000))] == [5_000, 5_000]


def test_a_partial_batch_at_the_end_is_left_for_the_next_fetch() -> None:
    whole = batch([BROKEN])
    assert [row[2] for row in read(whole + batch([GOOD], 1)[:-3])] == [b"k2"]


rows = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=12),
        st.none() | st.binary(max_size=12),
        st.lists(st.tuples(st.binary(max_size=8), st.none() | st.binary(max_size=8)), max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@given(rows, st.sampled_from([NONE, GZIP]))
def test_any_bytes_come_through(given_rows: list[Row], codec: int) -> None:
    """What was written is what is read, whatever the bytes: nothing is lost, nothing is guessed."""
    assert [row[2:] for row in read(batch(given_rows, codec=codec))] == [seen(row) for row in given_rows]


def test_where_aiokafka_has_no_extension_the_same_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pure Python twin says CorruptRecordException where the compiled one says UnicodeDecodeError."""
    monkeypatch.setattr("aiokafka.record.memory_records.DefaultRecordBatch", _DefaultRecordBatchPy)
    monkeypatch.setattr("chassis.records.MemoryRecords", _MemoryRecordsPy)
    assert [row[2] for row in read(batch([GOOD, BROKEN, GOOD]))] == [b"k", b"k2", b"k"]
