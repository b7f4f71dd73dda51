"""`qalqan up`, `down` and `status`."""

import json
import logging
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local.disk import no_room
from deploy.local.errors import CannotStart, explain

app = typer.Typer(no_args_is_help=True, help="Run the whole system on this machine.")
console = Console()
errors = Console(stderr=True)

Home = Annotated[
    Path,
    typer.Option(envvar="QALQAN_HOME", help="Where data, keys and logs of this network are.", show_default=True),
]
DEFAULT_HOME = Path(".qalqan")
DOWN_PATIENCE_S = 90.0
NOT_OURS = "not ours"
_READY_FD = "QALQAN_READY_FD"


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    brokers: Annotated[
        int | None, typer.Option(help="1, or 3 with TLS, users and ACLs; a network keeps what it was made with.")
    ] = None,
) -> None:
    """Start Kafka, PostgreSQL and the five services, and keep them running until Ctrl-C or `qalqan down`."""
    with sentences():
        if detach:
            _detach(home, brokers)
        else:
            _run(home, brokers)


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop what `up` started."""
    from deploy.local.lock import holder

    with sentences():
        runner = holder(home)
        if runner is None:
            console.print(f"Nothing runs in {home}.")
            return
        os.kill(runner, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_PATIENCE_S
        with console.status("Stopping ..."):
            while holder(home) == runner:
                if time.monotonic() > deadline:
                    raise CannotStart(f"The runner (process {runner}) does not stop: see {home / 'logs'}.")
                time.sleep(0.05)
        console.print("Stopped.")


@app.command()
def status(home: Home = DEFAULT_HOME) -> None:
    """Show every process, whether it is well, and where it is. Exit code 1 when something is not."""
    from deploy.local.lock import holder

    path = home / "run.json"
    runner = holder(home)
    if runner is None or not path.exists():
        console.print(f"Nothing runs in {home}: `qalqan up`." if runner is None else "Not ready yet.")
        raise typer.Exit(1)
    run = json.loads(path.read_bytes())
    table = Table(title=f"{run['network']} in {home}, runner {runner}", title_justify="left")
    for column in ("process", "pid", "health", "address"):
        table.add_column(column)
    well = True
    for name, address in {**run["http"], **_brokers(run), "postgres": _place(run["database"])}.items():
        health = no_room(home / name) or _health(name, run, address)
        well &= health in ("well", NOT_OURS)
        table.add_row(
            name,
            str(run["pids"].get(name, "-")),
            Text(health, style={"well": "green", NOT_OURS: "dim"}.get(health, "red")),
            address,
        )
    console.print(table)
    if not well:
        raise typer.Exit(1)


def _health(name: str, run: dict[str, Any], address: str) -> str:
    from deploy.local import kafka, postgres
    from deploy.local.stack import health

    if name not in run["pids"]:
        # Somebody else's broker or database is not ours to judge.
        return NOT_OURS if name in ("kafka", "postgres") else "down"
    port = int(address.rsplit(":", 1)[1])
    try:
        if name in run["http"]:
            code = health(port)[0]
            return "well" if code == 200 else f"answers {code}"
        return (
            "well" if (postgres.answers(port) if name == "postgres" else kafka.answers(port, _tls(run))) else "starting"
        )
    except OSError as error:
        return f"does not answer ({error.strerror or error})"


def _brokers(run: dict[str, Any]) -> dict[str, str]:
    """Address by process: one broker (or somebody else's, however many), or the three that ask who one is."""
    from deploy.local.cluster import NODES, name_of

    if not run.get("kafka_security"):
        return {"kafka": run["kafka"]}
    return dict(zip(map(name_of, NODES), run["kafka"].split(","), strict=True))


def _tls(run: dict[str, Any]) -> ssl.SSLContext | None:
    security = run.get("kafka_security")
    return ssl.create_default_context(cafile=security["ca"]) if security else None


def _place(database: str) -> str:
    return database.rsplit("@", 1)[-1].split("/", 1)[0]


def _run(home: Path, brokers: int | None) -> None:
    """Run in the foreground until SIGINT or SIGTERM."""
    from deploy.local.stack import Stack

    ready = os.environ.pop(_READY_FD, None)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters comes as CannotStart

    def say(word: str) -> None:
        console.print(word, markup=False, soft_wrap=True)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # once is enough: stopping goes on in order
            signal.signal(number, signal.SIG_IGN)
        raise _Stop

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    stack = Stack(home, brokers=brokers, tell=say)
    try:
        with console.status("Starting Kafka, PostgreSQL and five services ..."):
            stack.start()
        say(f"Ready in {time.monotonic() - started:.1f} s. {_summary(stack.run(), home)}")
        if ready is None:
            say(_way_in(stack.run()))
        else:  # whoever waits for it says so: our words go to a log
            os.write(int(ready), b"ready\n")
            os.close(int(ready))
        while True:
            signal.pause()
    except _Stop:
        with console.status("Stopping (the first time Kafka leaves a cache for quicker starts) ..."):
            stack.stop()
        say("Stopped.")
    except CannotStart as error:
        if ready is not None:
            os.write(int(ready), str(error).encode())
        raise


def _detach(home: Path, brokers: int | None) -> None:
    """Start the same program in a session of its own and return when it says that it is ready."""
    from deploy.local.jars import kafka_jars

    if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        kafka_jars()  # here, where the progress bar can be seen
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    reading, writing = os.pipe()
    with (home / "logs" / "runner.log").open("ab") as log:
        runner = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.cli", "up", "--home", str(home)]
            + ([] if brokers is None else ["--brokers", str(brokers)]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, _READY_FD: str(writing)},
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with console.status("Starting Kafka, PostgreSQL and five services ..."), os.fdopen(reading) as pipe:
        words = pipe.read()
    if words != "ready\n":
        runner.wait()
        raise CannotStart(words or f"The runner ended unexpectedly: see {home / 'logs' / 'runner.log'}.")
    run = json.loads((home / "run.json").read_bytes())
    for word in (f"Ready. {_summary(run, home)}", _way_in(run)):
        console.print(word, markup=False, highlight=False, soft_wrap=True)


def _summary(run: dict[str, Any], home: Path) -> str:
    where = home / "run.json"
    return f"Network {run['network']}; all addresses and keys in {where}."


def _way_in(run: dict[str, Any]) -> str:
    """The page's address, signed in: a fragment is sent to no server, and so stands in no log."""
    return f"The board: {run['dashboard']}/#token={run['token']}"


class _Stop(BaseException):
    """SIGINT or SIGTERM came."""


@contextmanager
def sentences() -> Iterator[None]:
    """What cannot be done is said in one sentence; exit code 1."""
    try:
        yield
    except (CannotStart, OSError) as failure:
        error = failure if isinstance(failure, CannotStart) else explain(failure, "looking after the runner")
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
