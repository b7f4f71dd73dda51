"""Traces: one request through all services, told to a real OTLP/HTTP receiver; and a receiver that is ill."""

import asyncio
import contextlib
import gzip
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.local.ports import LOOPBACK
from deploy.local.stack import Stack
from qalqan import topics
from qalqan.client import Client, Message
from qalqan.envelope import to_http
from qalqan.runinfo import RunInfo
from tests.conftest import pledge_data, request_data
from tests.integration.stranger import PATIENCE_S, Stranger, raw

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A state's own trace."""
VOTERS = ("AZ", "KG", "KZ", "UZ")


@dataclass(frozen=True)
class Span:
    """As much of a span as is looked at here; ids in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: list[str]
    took_ms: float


class Receiver:
    """An OTLP/HTTP receiver: takes what a collector takes, until it is told to hang."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.hangs = threading.Event()
        self.let_go = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.hangs.is_set():
                    receiver.let_go.wait(30)
                    return
                assert self.path == "/v1/traces"
                assert self.headers["content-type"] == "application/x-protobuf"
                unpacked = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                receiver.spans += spans_of(ExportTraceServiceRequest.FromString(unpacked))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://{LOOPBACK}:{self._server.server_port}"

    @contextlib.contextmanager
    def listening(self) -> Iterator["Receiver"]:
        """While the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.let_go.set()
            self._server.shutdown()
            self._server.server_close()

    async def trace(self, trace_id: str, wanted: set[tuple[str, str]]) -> list[Span]:
        """The spans of a trace once all that is wanted is there, by service and name."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = [span for span in self.spans if span.trace == trace_id]
                if wanted <= {(span.service, span.name) for span in found}:
                    return found
                await asyncio.sleep(0.05)


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """What a request of the protocol tells."""
    for of_resource in request.resource_spans:
        resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
        assert resource["service.namespace"] == "qalqan"
        assert resource["service.instance.id"] == f"{resource['service.name']}-1"
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    resource["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes},
                    [link.trace_id.hex() for link in span.links],
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                )


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A receiver of this module's own."""
    with Receiver().listening() as listening:
        yield listening


@pytest.fixture(scope="module")
def traced(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of its own that sends its traces there, and logs all it does."""
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "QALQAN_LOG_LEVEL": "DEBUG",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        patch.delenv("DATABASE_URL", raising=False)
        with Stack(tmp_path_factory.mktemp("traced"), extra=extra) as stack:
            yield stack


async def mobilised(stack: Stack, request_id: str) -> list[Message]:
    """A request from its raising over HTTP to its mobilisation; all that was published of it."""
    run = RunInfo.load(stack.home / "run.json")
    async with contextlib.AsyncExitStack() as open_clients:
        states = {
            state: await open_clients.enter_async_context(Client.connect(run, state=state)) for state in (*VOTERS, "TR")
        }
        stranger = await open_clients.enter_async_context(Stranger.of(stack))
        headers, body = to_http(stranger.signed("RequestRaised", request_data(request_id), "TR"))
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
            answer = await http.post(
                f"{run.http['request']}/events",
                headers={**headers, "traceparent": CALLER, "prefer": "wait=10"},
                content=body,
            )
        assert answer.status_code == 201, answer.text
        ballot = await states["AZ"].ballot(request_id)
        await states["AZ"].settled(await states["AZ"].pledge(pledge_data(request_id)))
        await states["TR"].settled(await states["TR"].accept(request_id, "AZ-1", 3))
        for state in VOTERS:
            await states[state].settled(await states[state].vote(ballot, "approve"))
        async with asyncio.timeout(PATIENCE_S):
            async for message in states["TR"].follow(request_id, from_beginning=True):
                if message.name == "MobilizationAuthorized":
                    break
        return await states["TR"].read(topics.REQUEST_TOPICS, request_id)


async def test_one_request_is_one_trace_through_all_services(receiver: Receiver, traced: Stack) -> None:
    """Every service tells its part, each under what it came from, from the submission to the mobilisation."""
    published = await mobilised(traced, "TR-2026-TRACE")
    trace_id = next(
        message.event.extensions["traceparent"].split("-")[1] for message in published if message.name == "BallotOpened"
    )
    wanted = {
        ("request", "POST /events"),
        ("request", "process inbox.requests"),
        ("request", "commit"),
        ("request", "publish requests"),
        ("consensus", "process requests"),
        ("consensus", "publish decisions"),
        ("consensus", "process inbox.votes"),
        ("consensus", "publish votes"),
        ("pledge", "process requests"),
        ("pledge", "process inbox.pledges"),
        ("pledge", "publish pledges"),
        ("pledge", "process decisions"),
        ("pledge", "publish mobilizations"),
        *(("notify", f"process {topic.name}") for topic in topics.REQUEST_TOPICS),
    }
    spans = await receiver.trace(trace_id, wanted)
    by_id = {span.id: span for span in spans}

    roots = [span for span in spans if not span.parent]
    assert [(root.service, root.name) for root in roots] == [("request", "process inbox.requests")]
    assert all(span.parent in by_id for span in spans if span.parent), "a parent that nobody told"
    assert all(span.took_ms >= 0 for span in spans)

    authorized = next(span for span in spans if (span.service, span.name) == ("pledge", "publish mobilizations"))
    line = []
    while authorized is not None:
        line.append((authorized.service, authorized.name))
        authorized = by_id.get(authorized.parent)
    assert line == [
        ("pledge", "publish mobilizations"),
        ("pledge", "process decisions"),
        ("consensus", "publish decisions"),
        ("consensus", "process inbox.votes"),
        ("request", "process inbox.requests"),
    ]

    http = next(span for span in spans if span.name == "POST /events")
    assert http.links == [CALLER.split("-")[1]], "a state's own trace is linked to, not joined"
    lane = next(span for span in spans if span.name == "process inbox.votes")
    assert lane.attributes["qalqan.request_id"] == "TR-2026-TRACE"
    assert lane.attributes["messaging.destination.partition.id"] == str(topics.partition_of("TR-2026-TRACE"))
    assert lane.attributes["messaging.kafka.offset"] >= 0
    assert lane.attributes["qalqan.lane.step"] > 0
    assert lane.attributes["cloudevents.event_type"] == "qalqan.VoteCast.v1"

    for service in ("request", "consensus", "pledge"):
        lines = (traced.home / "logs" / f"{service}.log").read_text().splitlines()
        said = [json.loads(line) for line in lines if '"request_id": "TR-2026-TRACE"' in line]
        assert {"record.handled", "event.stands"} <= {line["event"] for line in said}
        assert {line["trace_id"] for line in said} == {trace_id}

    for message in published:
        is_a_states = "/states/" in message.event.source
        assert ("traceparent" in message.event.extensions) != is_a_states, "a state's own event stays as it came"


async def test_a_forger_writes_into_nobodys_trace(receiver: Receiver, traced: Stack) -> None:
    """A submission whose signature does not hold is refused, and tells nothing; the one after it does."""
    async with Stranger.of(traced) as stranger:
        request = request_data("TR-2026-FORGED")
        forged = stranger.signed("RequestRaised", request, "TR", stranger.state_key("UZ"))
        refused = await stranger.rejection(await stranger.put(raw(forged, topics.INBOX_REQUESTS)))
        assert refused.data["reason"] == "foreign-source"
        genuine = stranger.signed("RequestRaised", request, "TR")
        await stranger.admit(genuine, topics.INBOX_REQUESTS)
        async with asyncio.timeout(PATIENCE_S):
            while genuine.id not in {span.attributes.get("cloudevents.event_id") for span in receiver.spans}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert forged.id not in {span.attributes.get("cloudevents.event_id") for span in receiver.spans}


async def test_a_collector_that_hangs_disturbs_nobody(receiver: Receiver, traced: Stack) -> None:
    """Requests go on at their pace, and a service that is told to stop stops."""
    receiver.hangs.set()
    for number in range(3):
        begun = time.monotonic()
        await mobilised(traced, f"TR-2026-HANGS-{number}")
        assert time.monotonic() - begun < 30
    run = RunInfo.load(traced.home / "run.json")
    told = psutil.Process(run.pids["pledge"])
    begun = time.monotonic()
    told.terminate()
    await asyncio.to_thread(told.wait, 30)
    assert time.monotonic() - begun < 20, "it must not wait for its collector"
    log = (traced.home / "logs" / "pledge.log").read_text()
    assert "Traceback" not in log
