"""Broker and database, and nothing above them: what the services and the tests stand on.

Where KAFKA_BOOTSTRAP_SERVERS or DATABASE_URL is set, that one is used; the other is embedded.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
from pydantic import ValidationError

from deploy.local import acls, kafka, postgres, roles, topics
from deploy.local.cluster import NODES, PORTS_A_NODE, Cluster, name_of
from deploy.local.disk import no_room
from deploy.local.errors import DISK_FULL, CannotStart, explain
from deploy.local.jars import cache_dir, kafka_jars
from deploy.local.lock import HomeLock
from deploy.local.migrate import migrate_all
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.private import secret, write_private
from deploy.local.process import Program, Supervised
from deploy.local.roles import SERVICES, role_of
from qalqan.access import Access
from qalqan.complaints import complaints

LOG_LIMIT_BYTES = 16 * 1024 * 1024


class Infrastructure:
    """A context manager: entered when broker and database answer, with all topics, schemas and roles made.

    Blocks at start and stop; for an event loop use `asyncio.to_thread`. Raises CannotStart.

    `brokers`: 1, or 3 with TLS and ACLs; a home keeps what it was made with (None: that, and 1 for a new one).
    `migrate`: the services whose migrations are run as well. `tell`: gets a line for people, from any thread.
    """

    def __init__(
        self,
        home: Path,
        *,
        brokers: int | None = None,
        migrate: Iterable[str] = (),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home.absolute()
        self.kafka = ""
        """Bootstrap servers, of clients."""
        self.access: Access
        """The runner's own way to Kafka: may do everything there."""
        self.cluster: Cluster | None = None
        """The three brokers, if there are three."""
        self.database_url = ""
        """The owner's URL: may do everything in the database."""
        self.processes: dict[str, Supervised] = {}
        self._brokers = brokers
        self._migrate = tuple(migrate)
        self._tell = tell
        self._closing = contextlib.ExitStack()
        self._stopping = False
        self._starting = threading.Lock()

    def access_of(self, service: str) -> Access:
        """The way to Kafka of one service, or of a state."""
        return self.cluster.user(service, self._kafka_password(service)) if self.cluster else self.access

    def service_url(self, service: str) -> str:
        """The database's URL for the role of one service."""
        url = urlsplit(self.database_url)
        place = url.netloc.rpartition("@")[2]
        user = f"{role_of(service)}:{quote(self._password(service), safe='')}"
        return urlunsplit(url._replace(netloc=f"{user}@{place}"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start what is embedded, and make topics, schemas and roles; if this fails, all is stopped again."""
        try:
            self._open_home()
            self._start_infrastructure()
            self._start_services()
        except OSError as error:
            self.stop()
            raise explain(error, f"starting in {self.home}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all in the order services, Kafka, PostgreSQL. May be called again."""
        with self._starting:
            self._stopping = True
        brokers = [process for name, process in self.processes.items() if name.startswith("kafka")]
        database = [process for name, process in self.processes.items() if name == "postgres"]
        services = [process for process in self.processes.values() if process not in (*brokers, *database)]
        for group in filter(None, (services, brokers, database)):
            together([process.stop for process in group])
        self._closing.close()

    def _start_services(self) -> None:
        """What stands above (Stack)."""

    def _changed(self, process: Supervised) -> None:
        """A process was started or became ready; called from its thread."""
        name = process.program.name
        if process.restarts > 0 and not process.ready and not self._stopping:
            cause = process.ended_because
            if cause is None and process.exit_code and process.exit_code > 0 and no_room(self.home / name):
                cause = DISK_FULL  # which may be why its log does not say so
            why = f"exit code {process.exit_code}" + (f", {cause}" if cause else "")
            with contextlib.suppress(OSError):  # where it would be read there may be no room
                self._tell(f"{name} ended ({why}) and was started again.")

    def _supervise(self, process: Supervised) -> Supervised:
        with self._starting:
            if self._stopping:
                raise CannotStart(f"{process.program.name} was not started: the runner is stopping.")
            self.processes[process.program.name] = process
            process.start()
        return process

    def _open_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs = self.home / "logs"
        logs.mkdir(exist_ok=True)
        self._closing.enter_context(HomeLock(self.home))
        for log in logs.glob("*.log"):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_suffix(".log.old"))
        _end_leftovers(self.home)

    def _start_infrastructure(self) -> None:
        database_port, *ports = free_ports(1 + PORTS_A_NODE * len(NODES))
        own = f"{postgres.OWNER}:{self._password('owner')}@{LOOPBACK}:{database_port}/{postgres.OWNER}"
        self.database_url = "postgresql://" + (os.environ.get("DATABASE_URL") or own).rpartition("://")[2]

        for service in SERVICES:
            self._password(service)  # made here, by one thread
        programs = self._choose_kafka(ports)

        def start_kafka() -> None:
            brokers = [self._supervise(Supervised(program, self._changed)) for program in programs()]
            for broker in brokers:
                broker.wait_ready()
            if self.cluster:
                asyncio.run(acls.establish(self.access, {user: self._kafka_password(user) for user in acls.USERS}))
            asyncio.run(topics.create(self.access))

        def start_database() -> None:
            if not os.environ.get("DATABASE_URL"):
                program = postgres.database(self.home, database_port, self._password("owner"))
                self._supervise(Supervised(program, self._changed)).wait_ready()
            asyncio.run(self._prepare_database())
            migrate_all(self.database_url, self._migrate)

        together([start_kafka, start_database])

    def _choose_kafka(self, ports: list[int]) -> Callable[[], list[Program]]:
        """Where Kafka is to be; gives what is to be run for that (blocks while the jars are fetched)."""
        if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            if self._brokers is not None:
                raise CannotStart(
                    "KAFKA_BOOTSTRAP_SERVERS names a Kafka that has its own brokers: leave out --brokers."
                )
            try:
                self.access = Access.of(os.environ)
            except ValidationError as error:
                raise CannotStart(f"Kafka's variables cannot be used: {'; '.join(complaints(error))}.") from error
            self.kafka = self.access.bootstrap_servers
            return list
        if self._number_of_brokers() == 1:
            port, controller_port = ports[:2]
            self.kafka = f"{LOOPBACK}:{port}"
            self.access = Access(bootstrap_servers=self.kafka)
            return lambda: [kafka.broker(self.home, kafka_jars(), port, controller_port, cache_dir())]
        self.cluster = cluster = Cluster(self.home, ports)
        self.kafka, self.access = cluster.bootstrap, cluster.admin()
        for user in acls.USERS:
            self._kafka_password(user)  # made here, by one thread
        self._hand_out_passwords()
        return lambda: cluster.programs(kafka_jars(), cache_dir())

    def _number_of_brokers(self) -> int:
        made_with = next(
            (n for n, name in ((1, "kafka"), (3, name_of(1))) if (self.home / name / "data").exists()), None
        )
        number = self._brokers or made_with or 1
        if number not in (1, len(NODES)):
            raise CannotStart(f"There may be 1 broker or {len(NODES)}, not {number}.")
        if made_with not in (None, number):
            raise CannotStart(
                f"The network in {self.home} was made with --brokers {made_with} and stays so: leave that out, or make "
                "another network with --home."
            )
        return number

    @property
    def passwords(self) -> Path:
        """The folder of the passwords for Kafka, a file for each state and for the reader."""
        return self.home / "passwords"

    def _hand_out_passwords(self) -> None:
        self.passwords.mkdir(mode=0o700, exist_ok=True)
        for user in acls.PUBLIC_USERS:
            write_private(self.passwords / user, self._kafka_password(user).encode())

    async def _prepare_database(self) -> None:
        if not os.environ.get("DATABASE_URL"):
            await postgres.create_database(self.database_url)
        await roles.prepare(self.database_url, {service: self._password(service) for service in SERVICES})

    def _password(self, name: str) -> str:
        return secret(self.home, f"database.{name}")

    def _kafka_password(self, user: str) -> str:
        return secret(self.home, f"kafka.{user}")


def together(steps: list[Callable[[], None]]) -> None:
    """Run all steps at once; the first failure is raised at once, while the others may still be running."""
    pool = ThreadPoolExecutor(len(steps))
    try:
        for done in as_completed([pool.submit(step) for step in steps]):
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _end_leftovers(home: Path) -> None:
    """End what a killed runner of this home left, where the kernel did not see to it (see `process`)."""
    run = home / "run.json"
    pids = json.loads(run.read_bytes()).get("pids", {}) if run.exists() else {}
    left = []
    for pid in pids.values():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.environ().get("QALQAN_HOME") == str(home):
                process.terminate()
                left.append(process)
    for process in psutil.wait_procs(left, timeout=5)[1]:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    run.unlink(missing_ok=True)
