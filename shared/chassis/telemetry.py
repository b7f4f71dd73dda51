"""Structured logs: one JSON object a line on standard error, each naming the service and its replica."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

_KEY_BYTES = 64
_REQUESTS = 10
_trace_of: Callable[[str], str] | None = None


class Placed(Protocol):
    """As much of a consumer's record as is asked here."""

    key: bytes | None
    topic: str
    partition: int
    offset: int


class _Unfailing(io.TextIOBase):
    """A stream for logs: where nothing can be written (its disk is full) the service goes on, unheard."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def request_id(key: bytes | None) -> str:
    """The request that a record is about, for a log line: its key, which may be anything, and is cut short."""
    return (key or b"")[:_KEY_BYTES].decode(errors="replace")


def of_record(record: Placed) -> dict[str, Any]:
    """What a log line about a record says of it: its request, and its place."""
    return {
        "request_id": request_id(record.key),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }


def request_ids(keys: Iterable[bytes | None]) -> list[str]:
    """The first few requests that records are about, each once."""
    return sorted({request_id(key) for key in keys})[:_REQUESTS]


def name_traces(trace_of: Callable[[str], str]) -> None:
    """From now on a line that names a request (`request_id`) names its trace too."""
    global _trace_of
    _trace_of = trace_of


def _add_trace_id(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    if _trace_of is not None and isinstance(request := line.get("request_id"), str):
        line["trace_id"] = _trace_of(request)
    return line


def configure(service: str, replica: str, level: str) -> None:
    """Sets logging up for this process; called once, in main. `level`: at DEBUG each submission and each event is told,
    at INFO what happens to lanes, from WARNING on what goes wrong."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # A database that is away is said once, by whoever waits for it, and without a stack trace.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_trace_id,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, replica=replica)
