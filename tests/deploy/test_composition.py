"""compose.yaml runs: its brokers, jobs and services with their own settings, on real processes (`make composition`)."""

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx2
import pytest

from deploy.local.roles import SERVICES
from qalqan.envelope import Event, to_http
from qalqan.events import type_of
from qalqan.instants import format_instant
from qalqan.jsontext import canonical
from qalqan.signing import Ed25519Key, sign
from qalqan.sources import state_source
from tests.conftest import request_data
from tests.deploy.composition import Composition

pytestmark = pytest.mark.skipif(
    "QALQAN_COMPOSITION" not in os.environ, reason="it takes half a minute: make composition"
)


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """All of it, in a home of its own."""
    with Composition(tmp_path_factory.mktemp("composition")) as running:
        members = len(json.loads((running.home / "genesis.json").read_bytes()))
        soon(
            lambda: all(httpx2.get(f"{running.url(it)}/health").json()["members_offset"] >= members for it in SERVICES)
        )
        yield running


def soon(holds: Callable[[], bool]) -> None:
    """Waits until something holds. AssertionError after half a minute."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_request_is_admitted_and_its_ballot_opens(composition: Composition) -> None:
    """Signed by a state with the key that `qalqan prepare` made, over HTTP, read with the token that it made."""
    home = composition.home
    network = json.loads((home / "root.json").read_bytes())["network"]
    event = Event(
        id="composition-1",
        source=state_source(network, "TR"),
        type=type_of("RequestRaised"),
        subject="TR-2026-COMPOSE",
        time=format_instant(datetime.now(UTC)),
        datacontenttype="application/json",
        data=canonical(request_data("TR-2026-COMPOSE")),
    )
    headers, body = to_http(sign(event, Ed25519Key.from_pem((home / "keys" / "TR.pem").read_bytes())))
    answer = httpx2.post(
        f"{composition.url('request')}/events", headers={**headers, "prefer": "wait=20"}, content=body, timeout=30
    )
    assert answer.status_code == 201, answer.text
    token = (home / "services" / "consensus" / "token").read_text()
    ballots = f"{composition.url('consensus')}/requests/TR-2026-COMPOSE/ballots"
    shown = {"authorization": f"Bearer {token}"}
    soon(lambda: httpx2.get(ballots, headers=shown).is_success)
    assert len(httpx2.get(ballots, headers=shown).json()["items"]) == 1


def test_a_service_has_what_is_its_own_and_no_more(composition: Composition) -> None:
    """What is mounted into a service's container."""
    for service in ("request", "notify"):
        folder = composition.home / "services" / service
        assert sorted(path.name for path in folder.iterdir()) == [
            "ca.pem", "database-password", "kafka-password", "key.pem", "root.json", "token",
        ]  # fmt: skip
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
