"""A system whose database, or all of it, has a disk of its own, small enough to be filled for real."""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.local.postgres import answers
from deploy.local.process import with_environment
from deploy.local.stack import health
from qalqan.runinfo import NotRunning, RunInfo

_EMBEDDED = dict.fromkeys(("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"))
"""Not somebody else's broker or database, also where the environment names them."""
_READY_WITHIN_S = 90.0
_STOPPED_WITHIN_S = 30.0
_NS_GET_USERNS = 0xB701
"""ioctl_ns(2)."""
_CHUNK_BYTES, _PAGE_BYTES = 1 << 20, 1 << 12
_TAKEN_AGAIN_AFTER_S = 0.02


def own_disk(place: Path, size_mib: int) -> list[str]:
    """The words before a command that give it a file system of that size in an empty folder, gone when it ends.

    A mount that only the command and its children see; an ordinary user is root in a namespace of his own for it, and
    himself again afterwards. Skips the test where the machine allows neither.
    """
    mount = 'mount -t tmpfs -o size="$1",mode=0700 qalqan "$2" && shift 2 && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", f"{size_mib}m", str(place)]
    if os.geteuid() != 0:
        himself = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        words = [words[0], "--user", "--map-root-user", *words[1:], *himself]
    try:
        trial = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no small file system for the database can be made here: {error}")
    if trial.returncode:
        pytest.skip(f"no small file system for the database can be made here: {trial.stderr.strip()}")
    return words


class SmallDisk:
    """`qalqan up` with a part of its home on a file system of its own."""

    def __init__(self, home: Path, part: str, runner: "subprocess.Popen[bytes]") -> None:
        self._home = home
        self._inside = Path(f"/proc/{runner.pid}/root{home}")
        """The home as the runner sees it: its mount is in no other's view."""
        self._disk = self._inside / part
        self._runner = runner

    @property
    def run(self) -> RunInfo:
        """run.json as it is now, with paths that are good here."""
        run = RunInfo.load(self._inside / "run.json")
        here = {name: str(self._inside / Path(path).name) for name, path in (("keys", run.keys), ("root", run.root))}
        return run.model_copy(update=here)

    @property
    def told(self) -> str:
        """What the runner told people."""
        return runner_log(self._home).read_text(errors="replace")

    def log(self, name: str) -> str:
        """What a process of it has logged."""
        return (self._inside / "logs" / f"{name}.log").read_text(errors="replace")

    def status(self) -> tuple[int, str]:
        """`qalqan status`: exit code and what it says."""
        view = os.open(f"/proc/{self._runner.pid}/ns/mnt", os.O_RDONLY)
        owner = fcntl.ioctl(view, _NS_GET_USERNS)  # in whose namespace the user could mount: root has his own
        inside = ["nsenter", f"--mount=/proc/self/fd/{view}"]
        if os.geteuid() != 0:
            inside += [f"--user=/proc/self/fd/{owner}", "--preserve-credentials"]
        try:
            told = subprocess.run(
                [*inside, *_qalqan("status", self._home)],
                env=with_environment({"COLUMNS": "200"}),
                capture_output=True,
                text=True,
                check=False,
                pass_fds=[view, owner],
            )
        finally:
            os.close(view)
            os.close(owner)
        return told.returncode, told.stdout + told.stderr

    def well(self) -> bool:
        """Whether every service is ready and the database takes sessions."""
        run = self.run
        ports = [int(address.rpartition(":")[2]) for address in run.http.values()]
        with contextlib.suppress(OSError):
            return answers(urlsplit(run.database or "").port or 0) and all(health(port)[0] == 200 for port in ports)
        return False

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a page is free while the block runs, whatever the database itself gives back meanwhile."""
        ballast, freed = self._disk / "ballast", threading.Event()
        keeper = threading.Thread(target=_keep_full, args=(ballast, freed), name="ballast")
        try:
            fill(ballast)
            keeper.start()
            yield
        finally:
            freed.set()
            if keeper.ident is not None:
                keeper.join()
            ballast.unlink(missing_ok=True)

    async def need_new_log(self) -> None:
        """Makes the database begin new segments of its log until it cannot and dies, as in time it does by itself."""
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            while True:
                await self.begin_log_segment()

    async def begin_log_segment(self) -> None:
        """Makes the database go on in a new segment of its log, with 16 MiB set aside for what comes."""
        connection = await asyncpg.connect(self.run.database)
        try:
            await connection.execute("select pg_switch_wal(), pg_logical_emit_message(true, 'chaos', 'new')")
        finally:
            await connection.close()


def runner_log(home: Path) -> Path:
    """Where the runner's own words go: beside the home, whose disk may be full."""
    return home.with_suffix(".log")


@contextlib.asynccontextmanager
async def system_on_a_small_disk(home: Path, size_mib: int, part: str = "postgres") -> AsyncIterator[SmallDisk]:
    """From when it is ready until it is stopped. `part`: the folder of the home that is a disk of its own (".": all).

    The logs are kept in `home/logs` also where the home is gone with the runner.
    """
    place = home / part
    place.mkdir(parents=True)
    with runner_log(home).open("wb") as log:
        runner = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [*own_disk(place, size_mib), *_qalqan("up", home)],
            env=with_environment(_EMBEDDED),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    system = SmallDisk(home, part, runner)
    try:
        await _ready(system, runner)
        await _bound_log(system.run)
        yield system
    finally:
        if part == ".":
            shutil.copytree(system._inside / "logs", home / "logs", dirs_exist_ok=True)
        runner.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(runner.wait, _STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()


async def _ready(system: SmallDisk, runner: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(_READY_WITHIN_S):
        while True:
            with contextlib.suppress(NotRunning):
                if len(system.run.pids) == 7:
                    return
            assert runner.poll() is None, system.told
            await asyncio.sleep(0.05)


async def _bound_log(run: RunInfo) -> None:
    """Keeps the database's log short: it would take a gibibyte, and fill the disk by itself for good."""
    connection = await asyncpg.connect(run.database)
    try:
        for setting, size in (("min_wal_size", "32MB"), ("max_wal_size", "160MB")):
            await connection.execute(f"alter system set {setting} = '{size}'")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


def _qalqan(command: str, home: Path) -> list[str]:
    return [sys.executable, "-m", "deploy.local.cli", command, "--home", str(home)]


def fill(ballast: Path) -> None:
    """Makes a file longer until not a page is left on its file system."""
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size, chunk = os.fstat(file).st_size, _CHUNK_BYTES
        while chunk >= _PAGE_BYTES:
            try:
                os.posix_fallocate(file, size, chunk)
                size += chunk
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                chunk //= 2
    finally:
        os.close(file)


def _keep_full(ballast: Path, freed: threading.Event) -> None:
    while not freed.wait(_TAKEN_AGAIN_AFTER_S):
        fill(ballast)
