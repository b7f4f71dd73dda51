"""compose.yaml without a container engine: its own commands and environments, on real processes of this machine.

What an engine would add is what cannot be tried so: the images, the mounts, the network's names. Host names become
loopback ports, mounted paths become folders of one home; nothing else is changed.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import yaml

from deploy.local import kafka, postgres
from deploy.local.infrastructure import together
from deploy.local.jars import cache_dir, kafka_jars
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.process import Program, Supervised
from deploy.local.roles import SERVICES
from deploy.local.stack import health

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
_PLACE = re.compile(rf"\b(kafka-\d|{'|'.join(SERVICES)}):(\d+)|(?<=@)(postgres)()(?=/)")


def properties(environment: dict[str, str]) -> str:
    """What the entry point of Apache's image makes of its environment: `a.b` of KAFKA_A_B, `a-b` of KAFKA_A___B."""
    lines = []
    for name, value in environment.items():
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS":
            key = name.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")
            lines.append(f"{key}={value}\n")
    return "".join(lines)


class Composition:
    """The containers of compose.yaml as processes, while the block runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.containers: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
        names = [(broker, port) for broker in BROKERS for port in ("9092", "9093", "9094")]
        places = [*names, ("postgres", None), *((service, "8080") for service in SERVICES)]
        self.ports = dict(zip(places, free_ports(len(places)), strict=True))
        self._running: list[list[Supervised]] = []
        """In the order in which they were started, each group at once."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        while self._running:
            together([process.stop for process in self._running.pop()])

    def url(self, service: str) -> str:
        """Where a service answers."""
        return f"http://{LOOPBACK}:{self.ports[service, '8080']}"

    def _start(self) -> None:
        for folder in (self.home / "logs", self.home / "volumes" / "logs"):
            folder.mkdir(parents=True)
        self._job("secrets")
        self._supervise([*map(self._broker, BROKERS), self._database()])
        asyncio.run(postgres.create_database(self._owner))
        self._job("prepare")
        self._supervise([self._service(name) for name in SERVICES])

    def _supervise(self, programs: list[Program]) -> None:
        """Starts them, and waits until each is ready."""
        self._running.append(group := [Supervised(program) for program in programs])
        for process in group:
            process.start()
        together([process.wait_ready for process in group])

    # --- environments ------------------------------------------------------------------------------------------------

    def environment(self, name: str) -> dict[str, str]:
        """What compose.yaml gives a container, with this machine's places for its own."""
        given = self.containers[name].get("environment", {})
        return {key: self._here(name, str(value)) for key, value in given.items()}

    def _here(self, name: str, value: str) -> str:
        value = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value).replace("$$", "$")
        for path, folder in self._mounts(name):
            value = value.replace(path, str(folder))
        value = re.sub(r"(\w+)://:(\d+)", lambda at: f"{at[1]}://{LOOPBACK}:{self.ports[name, at[2]]}", value)
        if "User:" in value or "CN=" in value:
            return value
        return _PLACE.sub(lambda at: f"{LOOPBACK}:{self.ports[at[1] or at[3], at[2] or None]}", value)

    def _mounts(self, name: str) -> Iterator[tuple[str, Path]]:
        for mount in self.containers[name].get("volumes", ()):
            if isinstance(mount, dict):
                yield mount["target"], self.home / mount["volume"]["subpath"]
            elif mount.startswith("home:"):
                yield mount.removeprefix("home:"), self.home
            elif not mount.startswith("."):
                volume, path = mount.split(":")
                yield path, self.home / "volumes" / volume

    def _whole(self, name: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("KAFKA_", "DATABASE_", "QALQAN_"))
        }
        return {**kept, "QALQAN_HOME": str(self.home), **self.environment(name)}

    # --- processes ---------------------------------------------------------------------------------------------------

    def _job(self, name: str) -> None:
        program, *arguments = self.containers[name]["command"]
        assert program == "qalqan"
        command = [sys.executable, "-m", "deploy.prepare", *arguments]
        done = subprocess.run(command, env=self._whole(name), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _broker(self, name: str) -> Program:
        environment = self.environment(name)
        port = self.ports[name, "9092"]
        program = kafka.node(
            name,
            self.home,
            kafka_jars(),
            cache_dir(),
            "",
            environment.pop("CLUSTER_ID"),
            self._answers(port),
            makes_aot=False,
        )
        (self.home / name / "server.properties").write_text(properties(environment))
        return program

    def _answers(self, port: int) -> Callable[[], bool]:
        import ssl

        tls = ssl.create_default_context(cafile=self.home / "tls" / "ca.pem")
        return lambda: kafka.answers(port, tls)

    def _database(self) -> Program:
        """As its image's entry point makes it, of POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD_FILE."""
        environment = self.environment("postgres")
        assert environment["POSTGRES_USER"] == environment["POSTGRES_DB"] == postgres.OWNER
        password = Path(environment["POSTGRES_PASSWORD_FILE"]).read_text()
        self._owner = (
            f"postgresql://{postgres.OWNER}:{password}@{LOOPBACK}:{self.ports['postgres', None]}/{postgres.OWNER}"
        )
        return postgres.database(self.home / "volumes", self.ports["postgres", None], password)

    def _service(self, name: str) -> Program:
        port = self.ports[name, "8080"]
        python, *arguments = self.containers[name]["command"]
        assert python == "python"
        own = {"QALQAN_HTTP_HOST": LOOPBACK, "QALQAN_HTTP_PORT": str(port), "QALQAN_HOME": str(self.home)}
        return Program(
            name=name,
            command=lambda: [sys.executable, *arguments],
            environment={**self.environment(name), **own},
            answers=lambda: health(port)[0] == 200,
            log=self.home / "logs" / f"{name}.log",
        )
