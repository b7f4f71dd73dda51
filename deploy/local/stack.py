"""The whole system on one machine: infrastructure, five services, and `run.json` that says where they are."""

import asyncio
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local import genesis
from deploy.local.errors import CannotStart
from deploy.local.infrastructure import Infrastructure, together
from deploy.local.keys import Identity, identity
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.private import TOKENS, secret, write_private
from deploy.local.process import Program, Supervised
from deploy.local.roles import SERVICES

_WRITE_AGAIN_S = 1.0

Command = Callable[[str], Sequence[str]]


def service_command(service: str) -> Sequence[str]:
    """How a service is started."""
    return [sys.executable, "-m", f"services.{service}.main"]


class Stack(Infrastructure):
    """`with Stack(home) as stack`: entered when everything is ready and `run.json` is written (CONTRACT "The
    runner").

    `command`: what starts a service, given its name. `extra`: more environment for all services.
    """

    def __init__(
        self,
        home: Path,
        *,
        brokers: int | None = None,
        command: Command = service_command,
        migrate: Sequence[str] = SERVICES,
        extra: dict[str, str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(home, brokers=brokers, migrate=migrate, tell=tell)
        self.identity: Identity
        self.ports: dict[str, int] = {}
        self._command = command
        self._extra = extra or {}
        self._complete = False
        self._writing = threading.Lock()

    def address(self, service: str) -> str:
        """The base URL of a service's HTTP side."""
        return f"http://{LOOPBACK}:{self.ports[service]}"

    def run(self) -> dict[str, Any]:
        """What stands in run.json (CONTRACT "The runner")."""
        return {
            "network": self.identity.network,
            "kafka": self.kafka,
            "kafka_security": self.cluster and self.cluster.security(self.passwords).model_dump(),
            "database": self.database_url,
            "http": {service: self.address(service) for service in SERVICES},
            "dashboard": self.address("notify"),
            "token": secret(self.home, "token"),
            "keys": str(self.identity.keys),
            "root": str(self.identity.root),
            "pids": {name: process.pid for name, process in self.processes.items() if process.pid},
        }

    def stop(self) -> None:
        """Stop all, and take run.json away if we wrote it: where another runner holds this home, it is that one's."""
        with self._writing:
            if self._complete:
                (self.home / "run.json").unlink(missing_ok=True)
            self._complete = False
        super().stop()

    def _start_services(self) -> None:
        self.identity = identity(self.home)
        if not any(name.startswith("kafka") for name in self.processes):
            asyncio.run(genesis.check_network(self.identity, self.access))
        first = asyncio.run(genesis.submit(self.identity, self.access))
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        token = secret(self.home, "token")
        # The Secretariat first: at the first start all others wait for the members it admits.
        services = [
            self._supervise(Supervised(self._program(service, token), self._changed)) for service in reversed(SERVICES)
        ]
        together([process.wait_ready for process in services])
        asyncio.run(genesis.wait_admitted(self.access, first))
        together([partial(self._wait_for_members, service, first) for service in SERVICES])
        self._complete = True
        self._write_run()

    def _program(self, service: str, token: str) -> Program:
        port = self.ports[service]
        environment = {
            "QALQAN_HOME": str(self.home),
            **self.access_of(service).environment(),
            "DATABASE_URL": self.service_url(service),
            "QALQAN_ROOT": str(self.identity.root),
            "QALQAN_KEY": str(self.identity.service_key(service)),
            "QALQAN_REPLICA": f"{service}-1",
            "QALQAN_HTTP_HOST": LOOPBACK,
            "QALQAN_HTTP_PORT": str(port),
            "QALQAN_TOKEN": token,
            "QALQAN_TOKENS": str(self.home / TOKENS),
            "QALQAN_SERVICES": ",".join(f"{name}={self.address(name)}" for name in SERVICES),
            # Who tries webhooks out has the target here.
            "QALQAN_WEBHOOK_ALLOW": os.environ.get("QALQAN_WEBHOOK_ALLOW", "127.0.0.0/8,::1/128"),
            "QALQAN_WEBHOOK_HTTP": os.environ.get("QALQAN_WEBHOOK_HTTP", "1"),
            **self._extra,
        }
        return Program(
            name=service,
            command=lambda: self._command(service),
            environment=environment,
            answers=lambda: health(port)[0] == 200,
            log=self.home / "logs" / f"{service}.log",
        )

    def _wait_for_members(self, service: str, count: int) -> None:
        """A service that tells in /health how far it has read `members` must know everybody before anybody
        submits."""
        deadline = time.monotonic() + genesis.PATIENCE_S
        while health(self.ports[service])[1].get("members_offset", count) < count:
            if time.monotonic() > deadline or self._stopping:
                raise CannotStart(f"The service {service} does not learn the members: see logs/{service}.log.")
            time.sleep(0.02)

    def _changed(self, process: Supervised) -> None:
        super()._changed(process)
        self._write_run()

    def _write_run(self) -> None:
        with self._writing:
            if not self._complete:
                return
            try:
                write_private(self.home / "run.json", json.dumps(self.run(), indent=1).encode())
            except OSError:  # the disk is full, mostly: what it says of pids is old until there is room
                again = threading.Timer(_WRITE_AGAIN_S, self._write_run)
                again.daemon = True
                again.start()


def health(port: int) -> tuple[int, dict[str, Any]]:
    """Status and JSON (or nothing) of `GET /health` on a loopback port. OSError while nobody answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        try:
            body = json.loads(answer.read())
        except ValueError:
            body = None
        return answer.status, body if isinstance(body, dict) else {}
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
