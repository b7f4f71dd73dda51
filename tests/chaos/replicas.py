"""A second replica of a service beside the runner's own: who owns which lanes, who wrote what, as their logs tell."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.private import secret
from deploy.local.process import with_environment
from deploy.local.stack import Stack
from qalqan.client import Message
from qalqan.topics import KEYED_PARTITIONS, MEMBERS, PUBLIC

ALL_LANES = frozenset(range(KEYED_PARTITIONS))
FIRST_SESSION_MS = 6_000
"""The default."""
SECOND_SESSION_MS = 3_000
"""Shorter than the first replica's: what a test waits for most is that a session ends."""
_PATIENCE_S = 40.0
_STREAM = "notify"
"""It has no lanes: its replicas share the partitions of every public topic, and one store."""

Part = int | str
"""What one replica owns and no other: a lane, or of the stream a partition (`votes/3`)."""


class Replica:
    """One replica of a service: the runner's (`consensus-1`), or one started by a test (`consensus-2`).

    `address`: of its HTTP side. `session_s`: how long it may be frozen and keep what it owns. `pid`: of its process,
    None while there is none. `exit_code`: of its last process, None while that runs.
    """

    def __init__(
        self,
        service: str,
        log: Path,
        address: str,
        session_s: float,
        pid: Callable[[], int | None],
        exit_code: Callable[[], int | None],
    ) -> None:
        self.service = service
        self.log = log
        self.address = address
        self.session_s = session_s
        self.pid = pid
        self.exit_code = exit_code

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process that runs now, if one does."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def lanes(self) -> frozenset[Part]:
        """The lanes (of the stream: the partitions) it was last given."""
        return self.given() or frozenset()

    def given(self) -> frozenset[Part] | None:
        """The same; None: it was not yet given any, nor told that there are none for it."""
        event, what = ("stream.assigned", "partitions") if self.service == _STREAM else ("lanes.assigned", "lanes")
        told = self.said(event)
        return frozenset(told[-1][what]) if told else None

    def said(self, event: str) -> list[dict[str, Any]]:
        """All its log lines of one event."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and f'"{event}"' in line]


def first(system: Stack, service: str) -> Replica:
    """The replica that the runner keeps."""
    process, log = system.processes[service], system.home / "logs" / f"{service}.log"
    session_s = FIRST_SESSION_MS / 1000
    return Replica(service, log, system.address(service), session_s, lambda: process.pid, lambda: process.exit_code)


@contextlib.asynccontextmanager
async def second(system: Stack, service: str, module: str | None = None) -> AsyncIterator[Replica]:
    """A second replica, from when both own lanes until it has left and the first owns all lanes again.

    `module`: what to run in place of the service's own main.
    """
    program = system._program(service, secret(system.home, "token"))
    log = system.home / "logs" / f"{service}-2.log"
    log.unlink(missing_ok=True)
    (port,) = free_ports(1)
    environment = with_environment(
        {
            **program.environment,
            "QALQAN_REPLICA": f"{service}-2",
            "QALQAN_HTTP_PORT": str(port),
            "QALQAN_SESSION_TIMEOUT_MS": str(SECOND_SESSION_MS),
        }
    )
    command = [sys.executable, "-m", module or f"services.{service}.main"]
    process = _start(command, environment, log)
    other = Replica(
        service,
        log,
        f"http://{LOOPBACK}:{port}",
        SECOND_SESSION_MS / 1000,
        lambda: process.pid if process.poll() is None else None,
        process.poll,
    )
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
    await until(lambda: one.lanes() == whole(service), f"{service}: the first replica does not get all lanes back")


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def whole(service: str) -> frozenset[Part]:
    """All that the replicas of a service own between them."""
    if service == _STREAM:
        return frozenset(f"{topic.name}/{partition}" for topic in PUBLIC for partition in range(topic.partitions))
    return frozenset([0]) if service == "secretariat" else frozenset(ALL_LANES)


def shared(one: Replica, other: Replica) -> bool:
    """Whether two replicas own all lanes between them, and each some; where there is but one lane, one has it."""
    mine, theirs, parts = one.given(), other.given(), whole(one.service)
    if mine is None or theirs is None:
        return False
    return not mine & theirs and mine | theirs == parts and (len(parts) == 1 or bool(mine and theirs))


@contextlib.asynccontextmanager
async def pairs(system: Stack, services: Sequence[str]) -> AsyncIterator[list[tuple[Replica, Replica]]]:
    """Two replicas of each service, while the block runs: the runner's, and another."""
    seconds = [second(system, service) for service in services]
    begun = await asyncio.gather(*(each.__aenter__() for each in seconds), return_exceptions=True)
    try:
        for failed in begun:
            if isinstance(failed, BaseException):
                raise failed
        others = [replica for replica in begun if isinstance(replica, Replica)]
        yield [(first(system, other.service), other) for other in others]
    finally:  # all at once: each waits for a session to end
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in seconds))


def written_by_both(messages: Iterable[Message], pair: tuple[Replica, Replica]) -> Counter[str]:
    """Of these public events of a service, in the order of each partition: how many keys of each topic had positions
    from both replicas. AssertionError: a partition whose events are not from both.

    A replica says at which step it took a lane; the fence lets nobody else write a later one, until the next does.
    """
    taken: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for number, replica in enumerate(pair):
        for told in replica.said("lane.taken"):
            taken[told["partition"]].append((told["epoch"], told["step"], number))
    of_partition: defaultdict[str, set[int]] = defaultdict(set)
    of_key: defaultdict[tuple[str, str | None], set[int]] = defaultdict(set)
    for message in messages:
        step = int(message.event.extensions["step"])
        writer = max(taking for taking in taken[message.partition] if taking[1] < step)[2]
        of_partition[f"{message.topic}/{message.partition}"].add(writer)
        key = None if message.topic == MEMBERS.name else message.event.subject
        of_key[message.topic, key].add(writer)
    alone = sorted(partition for partition, writers in of_partition.items() if len(writers) < 2)
    assert not alone, f"{pair[0].service}: one replica alone has written to {alone}"
    return Counter(topic for (topic, _), writers in of_key.items() if len(writers) == 2)


async def until(holds: Callable[[], bool], otherwise: str, within_s: float = _PATIENCE_S) -> None:
    """Waits until something holds. AssertionError: it does not."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - what another process writes into its log sets no event here
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(otherwise) from None
