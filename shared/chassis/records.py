"""Reading records whose header names are not UTF-8.

aiokafka decodes header *names* inside its fetcher: one record with a broken name makes every poll of its
partition raise for ever. Any writer of an inbox can send one. So a batch that cannot be decoded as it should
is decoded by hand, with `surrogateescape`: the bytes survive, and admission refuses the record for its name.
"""

import struct
from collections.abc import Iterator
from typing import Any

import aiokafka.consumer.fetcher as fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint


class _TolerantBatch:
    """A record batch that iterates as aiokafka's own, and by hand where that fails on a header's name."""

    def __init__(self, batch: Any, buffer: bytes) -> None:
        self._batch = batch
        self._buffer = buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return _by_hand(self._buffer)
        except CorruptRecordException as error:  # so says aiokafka without its compiled extension
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            return _by_hand(self._buffer)


def _by_hand(buffer: bytes) -> Iterator[_DefaultRecordPy]:
    """The records of a batch of magic 2, header names decoded with `surrogateescape` (KIP-98's record
    format)."""
    batch = _DefaultRecordBatchPy(buffer)
    batch._maybe_uncompress()
    body, at = batch._buffer, batch._pos
    for _ in range(batch._num_records):
        length, at = decode_varint(body, at)
        end = at + length
        at += 1  # attributes
        time_delta, at = decode_varint(body, at)
        offset_delta, at = decode_varint(body, at)
        key, at = _bytes(body, at)
        value, at = _bytes(body, at)
        count, at = decode_varint(body, at)
        headers = []
        for _ in range(count):
            name, at = _bytes(body, at)
            content, at = _bytes(body, at)
            headers.append(((name or b"").decode("utf-8", "surrogateescape"), content))
        if at != end:
            raise CorruptRecordException(f"a record of {length} bytes ends {at - end} bytes beside its end")
        log_time = batch.timestamp_type == batch.LOG_APPEND_TIME
        timestamp = batch.max_timestamp if log_time else batch.first_timestamp + time_delta
        yield _DefaultRecordPy(batch.base_offset + offset_delta, timestamp, batch.timestamp_type, key, value, headers)


def _bytes(body: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(body, at)
    if length < 0:
        return None, at
    return bytes(body[at : at + length]), at + length


_LOG_OVERHEAD_BYTES = 12
"""Base offset (8) and batch length (4) before the counted part of a batch."""


class TolerantRecords:
    """Drop-in for aiokafka's `MemoryRecords`: the same batches, each tolerant of broken header names."""

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 0
        self._records = MemoryRecords(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _TolerantBatch | None:
        """The next batch, with its own bytes kept for a second reading."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        (length,) = struct.unpack_from(">i", self._buffer, self._at + 8)
        end = self._at + _LOG_OVERHEAD_BYTES + length
        raw, self._at = self._buffer[self._at : end], end
        return _TolerantBatch(batch, raw)


def install() -> None:
    """Makes every aiokafka consumer of this process tolerant. Harmless when called twice."""
    fetcher.MemoryRecords = TolerantRecords
