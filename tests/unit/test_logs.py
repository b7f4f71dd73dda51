"""What a service logs of a request names it; and OpenTelemetry is not even imported where no collector is named."""

import hashlib
import json
import subprocess
import sys

import pytest
import structlog

from chassis import telemetry
from chassis.traces import Traces

_NOT_IMPORTED = """
import sys
import services.pledge.main, services.notify.main
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""


def test_nothing_of_it_is_loaded_without_a_collector() -> None:
    """Start-up time and memory of a service are what they were."""
    subprocess.run([sys.executable, "-c", _NOT_IMPORTED], check=True)


def test_a_line_that_names_a_request_names_its_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids by which it is found elsewhere, as the collector has them."""
    monkeypatch.setattr(telemetry, "_trace_of", None)
    traces = Traces("pledge", "pledge-1", "dev-0000")
    try:
        telemetry.configure("pledge", "pledge-1", "INFO")
        telemetry.name_traces(traces.trace_id)
        structlog.get_logger().warning("a.thing", request_id=telemetry.request_id(b"TR-2026-0001"))
        structlog.get_logger().debug("a.detail", request_id="TR-2026-0001")
        structlog.get_logger().warning("another.thing")
    finally:
        traces.close()
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["service"], first["request_id"]) == ("pledge", "TR-2026-0001")
    assert first["trace_id"] == hashlib.sha256(b"dev-0000\nTR-2026-0001").hexdigest()[:32]
    assert "trace_id" not in second


@pytest.mark.parametrize(("key", "told"), [(None, ""), (b"\xff", "\ufffd"), (b"x" * 1000, "x" * 64)])
def test_a_key_may_be_anything(key: bytes | None, told: str) -> None:
    """It is cut short, and never spoils the line."""
    assert telemetry.request_id(key) == told
