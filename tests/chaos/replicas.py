"""A second replica of a service beside the runner's own, and who owns which lanes, as their logs tell."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from deploy.local.ports import free_ports
from deploy.local.private import secret
from deploy.local.process import with_environment
from deploy.local.stack import Stack
from qalqan.topics import KEYED_PARTITIONS

ALL_LANES = frozenset(range(KEYED_PARTITIONS))
SECOND_SESSION_MS = 3_000
"""Shorter than the first replica's: what a test waits for most is that a session ends."""
_PATIENCE_S = 40.0


class Replica:
    """One replica of a service: the runner's (`consensus-1`), or one started by a test (`consensus-2`).

    `pid`: of its process, None while there is none. `exit_code`: of its last process, None while that runs.
    """

    def __init__(
        self,
        service: str,
        log: Path,
        pid: Callable[[], int | None],
        exit_code: Callable[[], int | None],
    ) -> None:
        self.service = service
        self.log = log
        self.pid = pid
        self.exit_code = exit_code

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process that runs now, if one does."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def lanes(self) -> frozenset[int]:
        """The lanes it was last given."""
        given = self.said("lanes.assigned")
        return frozenset(given[-1]["lanes"]) if given else frozenset()

    def said(self, event: str) -> list[dict[str, Any]]:
        """All its log lines of one event."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and f'"{event}"' in line]


def first(system: Stack, service: str) -> Replica:
    """The replica that the runner keeps."""
    process = system.processes[service]
    return Replica(service, system.home / "logs" / f"{service}.log", lambda: process.pid, lambda: process.exit_code)


@contextlib.asynccontextmanager
async def second(system: Stack, service: str, module: str | None = None) -> AsyncIterator[Replica]:
    """A second replica, from when both own lanes until it has left and the first owns all lanes again.

    `module`: what to run in place of the service's own main.
    """
    program = system._program(service, secret(system.home, "token"))
    log = system.home / "logs" / f"{service}-2.log"
    log.unlink(missing_ok=True)
    environment = with_environment(
        {
            **program.environment,
            "QALQAN_REPLICA": f"{service}-2",
            "QALQAN_HTTP_PORT": str(free_ports(1)[0]),
            "QALQAN_SESSION_TIMEOUT_MS": str(SECOND_SESSION_MS),
        }
    )
    command = [sys.executable, "-m", module or f"services.{service}.main"]
    process = _start(command, environment, log)
    other = Replica(service, log, lambda: process.pid if process.poll() is None else None, process.poll)
    one = first(system, service)
    try:
        await until(lambda: shared(one, other), f"{service}: two replicas do not share the lanes")
        yield other
    finally:
        for replica in (one, other):
            with contextlib.suppress(ProcessLookupError):
                replica.signal(signal.SIGCONT)
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    await until(lambda: one.lanes() == ALL_LANES, f"{service}: the first replica does not get all lanes back")


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def shared(one: Replica, other: Replica) -> bool:
    """Whether two replicas own all lanes between them, and each some."""
    mine, theirs = one.lanes(), other.lanes()
    return bool(mine and theirs) and not mine & theirs and mine | theirs == ALL_LANES


async def until(holds: Callable[[], bool], otherwise: str, within_s: float = _PATIENCE_S) -> None:
    """Waits until something holds. AssertionError: it does not."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - what another process writes into its log sets no event here
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(otherwise) from None
