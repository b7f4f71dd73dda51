"""compose.yaml, as far as it can be judged without an engine. That it runs: test_composition.py."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from deploy.local.cluster import Cluster
from deploy.local.roles import SERVICES
from services.notify.settings import StandingSettings
from tests.deploy.composition import BROKERS, COMPOSE, properties
from tests.deploy.tools import tool

TEXT = COMPOSE.read_text()
CONTAINERS: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
DIFFERENT = {
    "controlled.shutdown.enable", "broker.session.timeout.ms", "broker.heartbeat.interval.ms", "num.network.threads",
    "num.io.threads",
}  # fmt: skip
"""What three nodes on one small machine need and others do not."""


def test_it_is_by_the_specification() -> None:
    """As the compose specification's own types read it."""
    whole = json.dumps(
        yaml.safe_load(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", TEXT))
    )  # it knows no merge keys and no variables
    parsed = compose_spec.PyCompose.from_json(whole)
    for check in (parsed.validate, parsed.validate_networks, parsed.validate_volumes, parsed.validate_secrets):
        check()
    assert set(parsed.service_names()) == set(CONTAINERS)


def test_docker_reads_it() -> None:
    """`docker compose config`, where the plugin is there; it needs no engine."""
    docker = tool("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose plugin")
    done = subprocess.run([docker, "compose", "-f", str(COMPOSE), "config", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_service_is_there_and_sees_its_own_folder_only() -> None:
    """Its secrets, the readers' tokens, and nothing it could write to."""
    for service in SERVICES:
        container = CONTAINERS[service]
        assert container["command"] == ["python", "-m", f"services.{service}.main"]
        assert [mount["volume"]["subpath"] for mount in container["volumes"]] == [f"services/{service}", "readers"]
        assert all(mount["read_only"] for mount in container["volumes"])
        assert container["read_only"]
        assert container["cap_drop"] == ["ALL"]
        assert container["environment"]["KAFKA_SASL_USERNAME"] == service
        assert container["environment"]["DATABASE_URL"] == f"postgresql://qalqan_{service}@postgres/qalqan"
        assert container["depends_on"] == {"prepare": {"condition": "service_completed_successfully"}}


def test_notify_is_told_of_every_service() -> None:
    """For `GET /streams`."""
    told = CONTAINERS["notify"]["environment"]["QALQAN_SERVICES"]
    asked = StandingSettings.model_validate({"QALQAN_SERVICES": told}).services
    assert asked == tuple((service, f"http://{service}:8080") for service in SERVICES)


def test_no_secret_and_no_registry_stands_in_it() -> None:
    """Passwords are files; images are names that may be given another registry."""
    for container in CONTAINERS.values():
        for name, value in container.get("environment", {}).items():
            assert not re.search(r"PASSWORD|TOKEN$|SECRET", name) or name.endswith("_FILE"), name
            assert "password=" not in str(value)
        image = re.fullmatch(r"\$\{\w+_IMAGE:-(.+)\}", container["image"])
        assert image is not None
        assert "." not in image[1].split("/")[0].split(":")[0]


def test_ports_are_open_to_this_host_only() -> None:
    """All that is published."""
    ports = [port for container in CONTAINERS.values() for port in container.get("ports", ())]
    assert len(ports) == len(SERVICES) + 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_of_this_folder_exists() -> None:
    """Prometheus's and Grafana's files; every dashboard is among them."""
    mounts = [str(mount).split(":")[0] for container in CONTAINERS.values() for mount in container.get("volumes", ())]
    files = {path for path in mounts if path.startswith("./")}
    assert all((COMPOSE.parent / path).exists() for path in files)
    assert {f"./grafana/{path.name}" for path in (COMPOSE.parent / "grafana").glob("*.json")} <= files


def test_brokers_are_as_three_brokers_of_the_runner_are(tmp_path: Path) -> None:
    """The options of `qalqan up --brokers 3`, but for addresses and what only one small machine needs."""
    cluster = Cluster(tmp_path, range(9))
    wanted = options(cluster._options(1))
    given = options(properties({k: str(v).replace("$$", "$") for k, v in CONTAINERS["kafka-1"]["environment"].items()}))
    places = {name for name in wanted if name.endswith(("listeners", "location")) or "quorum" in name}
    for name in wanted.keys() - places - DIFFERENT - {"super.users"}:
        assert given[name] == wanted[name], name
    assert set(given["super.users"].split(";")) == {f"User:{name}" for name in (*BROKERS, "admin")}


def options(text: str) -> dict[str, str]:
    """Java's properties, as far as they are used."""
    lines = (line for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)
