"""The ground that tests stand on: a real broker and a real database, always.

KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL where set; else testcontainers where a Docker engine answers; else the
embedded ones.
One running system serves all tests of a session: each test raises requests of its own, so none disturbs another.
"""

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from deploy.local.ports import free_ports
from deploy.local.stack import Stack
from qalqan.client import Client
from qalqan.runinfo import RunInfo

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")

_PORTS, _PORTS_A_WORKER = 20_000, 6_000
if (_worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")).isdecimal():
    # Two workers at once: each has ports of its own for what it starts.
    _first = _PORTS + int(_worker) * _PORTS_A_WORKER
    os.environ["QALQAN_PORTS"] = f"{_first}-{_first + _PORTS_A_WORKER - 1}"

MAIL_PORT = free_ports(1)[0]
OUTSIDE = {
    "QALQAN_SMTP_URL": f"smtp://127.0.0.1:{MAIL_PORT}",  # a test that wants letters puts a server there
    "QALQAN_MAIL_FROM": "notify@qalqan.example",
    "QALQAN_WEBHOOK_TIMEOUT_S": "5",
}
"""How the system reaches those outside."""

STATES = ("AZ", "KG", "KZ", "TR", "UZ", "HU", "TM", "TRNC")


@pytest.fixture(scope="session")
def ground() -> Iterator[None]:
    """The broker and the database to use, chosen once."""
    with contextlib.ExitStack() as stack:
        if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ and _docker_answers():
            stack.enter_context(_containers())
        yield


def _docker_answers() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        return bool(docker.from_env(timeout=2).ping())
    except DockerException:
        return False


@contextlib.contextmanager
def _containers() -> Iterator[None]:
    """Kafka and PostgreSQL in containers, for the length of the session."""
    from testcontainers.kafka import KafkaContainer
    from testcontainers.postgres import PostgresContainer

    kafka = KafkaContainer("apache/kafka:4.3.1").with_kraft()
    postgres = PostgresContainer("postgres:18", driver=None)
    with kafka, postgres, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.get_bootstrap_server())
        patch.setenv("DATABASE_URL", postgres.get_connection_url())
        yield


@pytest.fixture(scope="session")
def system(ground: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system: broker, database, five services, each a process of its own."""
    with Stack(tmp_path_factory.mktemp("qalqan"), extra=OUTSIDE) as running:
        yield running


@pytest.fixture
def run(system: Stack) -> RunInfo:
    """run.json as it is now."""
    return RunInfo.load(system.home / "run.json")


Party = dict[str, Client]


@pytest_asyncio.fixture(scope="session")
async def states(system: Stack) -> AsyncIterator[Party]:
    """A client for each state, with its own key, checking every signature it reads."""
    run = RunInfo.load(system.home / "run.json")
    async with contextlib.AsyncExitStack() as stack:
        yield {state: await stack.enter_async_context(Client.connect(run, state=state)) for state in STATES}


_numbers = itertools.count(1)


@pytest.fixture
def new_request() -> Callable[..., dict[str, Any]]:
    """Makes the data of a RequestRaised by TR under an id of its own; keywords replace fields."""

    def make(**fields: Any) -> dict[str, Any]:
        return {**request_data(f"TR-2023-T{os.getpid()}-{next(_numbers)}"), **fields}

    return make


def request_data(request_id: str) -> dict[str, Any]:
    """A request for ten search and rescue teams, as in the contract's example."""
    return {
        "request_id": request_id,
        "affected_state": request_id.split("-", 1)[0],
        "mode": "test",
        "emergency": {
            "kind": "earthquake",
            "title": "Kahramanmaraş earthquakes",
            "occurred_at": "2023-02-06T01:17:34Z",
            "place": {"name": "Pazarcık", "country": "TR", "lat": 37.23, "lon": 37.01},
            "severity": "Extreme",
        },
        "needs": [
            {
                "need_id": "N1",
                "capability": "MUSAR",
                "quantity": 10,
                "unit": "team",
                "priority": 1,
                "needed_by": "2023-02-08T01:17:34Z",
                "deliver_to": {"name": "Adana", "country": "TR", "lat": 36.98, "lon": 35.28},
                "substitutes": ["HUSAR"],
            }
        ],
        "acceptance": "manual",
        "text": "Ağır hasar, arama kurtarma ekipleri gerekiyor",
        "language": "tr",
        "mandate": None,
    }


def pledge_data(request_id: str, pledge_id: str = "AZ-1", **fields: Any) -> dict[str, Any]:
    """Four teams from Baku, as in the contract's example."""
    return {
        "pledge_id": pledge_id,
        "request_id": request_id,
        "pledging_state": pledge_id.split("-", 1)[0],
        "channel": "mechanism",
        "answers": ["N1"],
        "capability": "HUSAR",
        "quantity": 4,
        "unit": "team",
        "divisible": True,
        "min_quantity": 1,
        "origin": {"name": "Baku", "country": "AZ", "lat": 40.47, "lon": 50.05},
        "mode_of_transport": "air",
        "transport": "own",
        "ready_at": "2023-02-06T06:00:00Z",
        "arrives_at": "2023-02-06T12:00:00Z",
        "cost_borne_by": "pledging_state",
        "estimated_cost": None,
        "package": None,
        "conditions": None,
        "mandate": None,
        **fields,
    }
