"""Traces: the way of one request through all services, as OpenTelemetry spans sent over OTLP/HTTP.

Off, and nothing of OpenTelemetry imported, unless OTEL_EXPORTER_OTLP_ENDPOINT (or its form for traces) names a
collector; the SDK reads its other standard variables itself.

**A request is one trace, and nobody has to tell anybody which.** Trace id and root span id are derived from network and
request id, the span id of a publication from the event's topic, source and id: whoever reads an event knows the span
it came from. So all services meet in one trace, over days, restarts and replicas, and what is on the wire needs to
carry nothing. A `traceparent` that a state sends is unsigned, and anybody's claim: a span links to it, and is never put
into it; a submission whose signature does not hold makes no span. Ids are hashes, so that the sampler `traceidratio`
keeps or drops whole requests.

Spans are made after the fact, from a few instants that a lane notes on its way, and leave in a thread of their own from
a bounded queue: a collector that hangs costs spans, never time.
"""

import contextlib
import hashlib
import json
import logging
import random
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chassis.admission import FIRST_POSITION, Record
from chassis.bus import Outgoing
from chassis.settings import Settings
from qalqan.envelope import BadEnvelope, Event, from_kafka
from qalqan.events import TICK
from qalqan.topics import BY_NAME, INBOX_GOVERNANCE, INBOXES, REJECTIONS, REQUEST_TOPICS, REQUESTS

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind

HEADER = "traceparent"
"""Of a Kafka record, as OpenTelemetry has it: no attribute of the event (`ce_traceparent`), and it goes no further."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_OF_A_REQUEST = {topic.name for topic in (*INBOXES, *REQUEST_TOPICS) if topic is not INBOX_GOVERNANCE}
_EXPORT_TIMEOUT_S = 2.0
_CLOSE_WITHIN_S = 1.0
_SAY_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Handling:
    """A lane's transaction, as it is seen from outside; instants in nanoseconds since 1970."""

    step: int
    records: Sequence[tuple[Record, Event]]
    """What was handled, where it can be believed."""
    begun_ns: int
    drafted_ns: int
    committed_ns: int


@dataclass(frozen=True, slots=True)
class _Ids:
    trace: int
    root: int


class Traces:
    """The spans of one replica of one service."""

    def __init__(self, service: str, replica: str, network: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _say_faults_seldom()
        self._network = network
        self._group = f"qalqan.{service}"
        self._ids = _chosen_ids()
        names = {"service.name": service, "service.namespace": "qalqan", "service.instance.id": replica}
        self._provider = TracerProvider(
            id_generator=self._ids,
            resource=Resource.create({**names, "qalqan.network": network}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_TIMEOUT_S)))
        self._tracer = self._provider.get_tracer("qalqan")

    @classmethod
    def of(cls, service: str, settings: Settings, network: str) -> "Traces | None":
        """None: no collector is named."""
        return cls(service, settings.replica, network) if settings.otlp_endpoint else None

    def close(self) -> None:
        """Sends what is left; a collector that does not take it within a second gets no more."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_WITHIN_S)

    # --- ids ---------------------------------------------------------------------------------------------------------

    def trace_id(self, subject: str) -> str:
        """The trace of a request, in hexadecimal."""
        return f"{_derived(self._network, subject).trace:032x}"

    def traceparent_of_event(self, topic: str, source: str, id: str, subject: str) -> str | None:
        """For what this service states on a topic of a request: the span of its publication; None for others."""
        return self._traceparent(subject, _event_span(topic, source, id)) if topic in _OF_A_REQUEST else None

    def traceparent_of_submission(self, event: Event) -> str:
        """For the record of a submission that came over HTTP (`HEADER`): of a span that is told later (`submitted`)."""
        return self._traceparent(event.subject or "", random.getrandbits(64) or 1)

    def _traceparent(self, subject: str, span: int) -> str:
        return f"00-{self.trace_id(subject)}-{span:016x}-01"

    # --- spans -------------------------------------------------------------------------------------------------------

    def submitted(
        self,
        event: Event,
        record: Outgoing,
        offset: int,
        begun_ns: int,
        ended_ns: int,
        caller: str | None,
    ) -> None:
        """`POST /events`, until the broker had it. `record`, `offset`: what was written, and where; `caller`: the
        caller's own `traceparent`."""
        from opentelemetry.trace import SpanKind

        ours = _header(record.headers)
        assert ours is not None, "it was made by `traceparent_of_submission`"
        self._start(
            "POST /events",
            SpanKind.SERVER,
            event.subject or "",
            span=ours[1],
            begun_ns=begun_ns,
            attributes={
                "http.request.method": "POST",
                "http.route": "/events",
                **_place(record.topic, record.partition, offset),
                **_about(event, record.topic),
            },
            links=_links(event.extensions.get("traceparent"), caller),
        ).end(ended_ns)

    def handled(self, handling: Handling, outgoing: Iterable[Outgoing], published_ns: int) -> None:
        """A lane has handled records, and what it had to say is out."""
        from opentelemetry.trace import SpanKind

        headers = [(record, _texts(record)) for record in outgoing]
        refused = {record.key.decode(): _reason(record) for record, _ in headers if record.topic == REJECTIONS.name}
        causes: dict[str, SpanContext] = {}
        begins = {texts.get("ce_id") for record, texts in headers if _is_first(record.topic, texts)}
        for record, event in handling.records:
            if event.type == TICK.type:
                continue
            reason = refused.get(f"{record.topic}/{record.partition}/{record.offset}")
            span = self._process(
                record,
                event,
                handling.begun_ns,
                {"qalqan.lane.step": handling.step} | ({} if reason is None else {"qalqan.rejected": reason}),
                is_root=event.id in begins and BY_NAME[record.topic].kind == "inbox",
            )
            within = causes[event.id] = span.get_span_context()
            self._start(
                "commit",
                SpanKind.CLIENT,
                event.subject or "",
                parent=within.span_id,
                begun_ns=handling.drafted_ns,
                attributes={"db.system.name": "postgresql", "db.operation.name": "commit"},
            ).end(handling.committed_ns)
            span.end(published_ns)
        for sent, texts in headers:
            if sent.topic in _OF_A_REQUEST:
                self._published(sent, texts, causes, handling, published_ns)

    def taken(self, records: Iterable[Record], begun_ns: int, ended_ns: int) -> None:
        """Public records have been read, and what they bring is there for those who look."""
        for record in records:
            if record.topic in _OF_A_REQUEST:
                with contextlib.suppress(BadEnvelope):  # whoever took it has said so
                    event = from_kafka(record.key, record.headers, record.value)
                    self._process(record, event, begun_ns, {}).end(ended_ns)

    def _process(
        self, record: Record, event: Event, begun_ns: int, more: Mapping[str, Any], is_root: bool = False
    ) -> "Span":
        from opentelemetry.trace import SpanKind

        subject, ids = event.subject or "", _derived(self._network, event.subject or "")
        came, parent = _header(record.headers), None
        if BY_NAME[record.topic].kind == "public":
            parent = _event_span(record.topic, event.source, event.id)
        elif came is not None and came[0] == ids.trace:
            parent, came = came[1], None  # over HTTP
        return self._start(
            f"process {record.topic}",
            SpanKind.CONSUMER,
            subject,
            span=ids.root if is_root else None,
            parent=None if is_root else parent or ids.root,
            begun_ns=begun_ns,
            attributes={
                **_place(record.topic, record.partition, record.offset),
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.consumer.group.name": self._group,
                **_about(event, record.topic),
                **more,
            },
            links=_links(event.extensions.get("traceparent"), _said(came)),
        )

    def _published(
        self,
        record: Outgoing,
        texts: Mapping[str, str],
        causes: Mapping[str, "SpanContext"],
        handling: Handling,
        published_ns: int,
    ) -> None:
        from opentelemetry.trace import SpanKind

        cause = causes.get(texts.get("ce_causationid") or texts["ce_id"])
        self._start(
            f"publish {record.topic}",
            SpanKind.PRODUCER,
            texts["ce_subject"],
            span=_event_span(record.topic, texts["ce_source"], texts["ce_id"]),
            parent=None if cause is None else cause.span_id,
            begun_ns=handling.committed_ns,
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.message.id": texts["ce_id"],
                "qalqan.lane.step": handling.step,
                "qalqan.request_id": texts["ce_subject"],
                "cloudevents.event_id": texts["ce_id"],
                "cloudevents.event_source": texts["ce_source"],
                "cloudevents.event_type": texts["ce_type"],
            },
        ).end(published_ns)

    def _start(
        self,
        name: str,
        kind: "SpanKind",
        subject: str,
        *,
        begun_ns: int,
        attributes: Mapping[str, Any],
        span: int | None = None,
        parent: int | None = None,
        links: Sequence["Link"] = (),
    ) -> "Span":
        """A span in its request's trace; under the root where it has no parent, unless it is the root itself."""
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        ids = _derived(self._network, subject)
        self._ids.trace, self._ids.span = ids.trace, span
        context = Context()
        if span != ids.root:
            context = set_span_in_context(NonRecordingSpan(_context(ids.trace, parent or ids.root)), context)
        return self._tracer.start_span(name, context, kind, dict(attributes), list(links), begun_ns)


@lru_cache(maxsize=4096)
def _derived(network: str, subject: str) -> _Ids:
    digest = hashlib.sha256(f"{network}\n{subject}".encode()).digest()
    return _Ids(int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]))


def _event_span(topic: str, source: str, id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{topic}\n{source}\n{id}".encode()).digest()[:8])


def _chosen_ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Chosen(RandomIdGenerator):
        """The ids that `_start` has set, which is the only one to ask, in one thread; random where it set none."""

        trace = 0
        span: int | None = None

        def generate_trace_id(self) -> int:
            """Of a root."""
            return self.trace

        def generate_span_id(self) -> int:
            """The one that was set, once."""
            chosen, self.span = self.span, None
            return super().generate_span_id() if chosen is None else chosen

    return Chosen()


def _context(trace: int, span: int) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _place(topic: str, partition: int, offset: int) -> dict[str, Any]:
    """OpenTelemetry's semantic conventions for messaging, and for Kafka."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }


def _about(event: Event, topic: str) -> dict[str, Any]:
    about = {
        "messaging.message.id": event.id,
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
    }
    return about | ({"qalqan.request_id": event.subject or ""} if topic in _OF_A_REQUEST else {})


def _links(*traceparents: str | None) -> list["Link"]:
    """To what others say they were doing: their own traces."""
    from opentelemetry.trace import Link

    found = (_TRACEPARENT.fullmatch(text) for text in traceparents if text)
    return [Link(_context(int(match[1], 16), int(match[2], 16))) for match in found if match]


def _header(headers: Iterable[tuple[str, bytes]]) -> tuple[int, int] | None:
    for name, value in headers:
        if name == HEADER and (match := _TRACEPARENT.fullmatch((value or b"").decode(errors="replace"))):
            return int(match[1], 16), int(match[2], 16)
    return None


def _said(came: tuple[int, int] | None) -> str | None:
    return None if came is None else f"00-{came[0]:032x}-{came[1]:016x}-01"


def _texts(record: Outgoing) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in record.headers}


def _is_first(topic: str, texts: Mapping[str, str]) -> bool:
    """Whether it is the first word of a request: its handling is the root of the trace."""
    return topic == REQUESTS.name and texts.get("ce_position") == FIRST_POSITION


def _reason(rejection: Outgoing) -> str:
    reason: str = json.loads(rejection.value)["reason"]
    return reason


class _Seldom(logging.Filter):
    """Lets a message of a logger through once in ten minutes, without its stack trace: a collector that is away is no
    news the second time."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it was not said lately."""
        record.exc_info = None
        is_new = record.created - self._said_at.get(record.msg, 0.0) > _SAY_AGAIN_S
        if is_new:
            self._said_at[record.msg] = record.created
        return is_new


def _say_faults_seldom() -> None:
    for name in (
        "opentelemetry.sdk._shared_internal",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "urllib3.connectionpool",
    ):
        logging.getLogger(name).addFilter(_Seldom())
