"""`qalqan rebuild SERVICE`: its database made again from the topics (DESIGN "Recovery").

Everything must be down: that is simplest to do and to be sure of, and for a service that refused to start nobody waits.
Broker and database, where they are the embedded ones, are started for as long as it takes.
"""

import asyncio
import importlib
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chassis.rebuild import Rebuilt
from chassis.settings import Settings
from deploy.local.cli import DEFAULT_HOME, Home, console, sentences
from deploy.local.errors import CannotStart
from deploy.local.infrastructure import Infrastructure
from deploy.local.keys import Identity
from deploy.local.migrate import migrate
from deploy.local.roles import SERVICES, role_of


def rebuild(
    services: Annotated[list[str], typer.Argument(metavar="SERVICE...", help=f"Of {', '.join(SERVICES)}.")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Make a service's database again from the topics. Everything must be down (`qalqan down`)."""
    for service in services:
        if service not in SERVICES:
            raise typer.BadParameter(f"{service} is no service: {', '.join(SERVICES)}", param_hint="SERVICE")
    with sentences():
        if not Identity(home).root.exists():
            raise CannotStart(f"There is no network in {home}: name its place with --home or QALQAN_HOME.")
        ground = Infrastructure(home)
        with console.status("Starting broker and database ..."):
            ground.start()
        try:
            for service in services:
                _say(_summary(service, run(ground, service)))
        except (KafkaError, asyncpg.PostgresError) as error:
            raise CannotStart(f"{error}: the rebuild was cut short; run it again.") from error
        finally:
            with console.status("Stopping ..."):
                ground.stop()
    _say("Go on with `qalqan up`.")


def _summary(service: str, found: Rebuilt) -> str:
    counts = [f"{found.events} events"]
    if service != "notify":
        counts += [f"{found.requests} requests", f"{found.submissions} submissions"]
    rest = f"; {found.unsettled} submissions are handled when it starts" if found.unsettled else ""
    alien = f"; {found.ignored} records that it did not write are left out (see above)" if found.ignored else ""
    return f"The database of {service} is made again: {', '.join(counts)}{rest}{alien}."


def _say(word: str) -> None:
    console.print(word, markup=False, highlight=False, soft_wrap=True)


def run(ground: Infrastructure, service: str) -> Rebuilt:
    """Drops the service's schema, makes it anew and fills it, on infrastructure that is up; what was found.

    CannotStart: the service is still connected.
    """
    identity = Identity(ground.home)
    given: dict[str, Any] = {
        "kafka": ground.access_of(service),
        "DATABASE_URL": ground.service_url(service),
        "QALQAN_ROOT": identity.root,
        "QALQAN_KEY": identity.service_key(service),
        "QALQAN_REPLICA": f"{service}-rebuild",
    }
    settings = Settings(**given)
    module = importlib.import_module(f"services.{service}.main")
    carry_over = getattr(module, "carry_over", None)
    rest = asyncio.run(_clear(ground.database_url, service, module, settings, keeps=carry_over is not None))
    if rest:
        _say(f"{rest} events that were committed, and perhaps not published, are published.")
    migrate(ground.database_url, service)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        found: Rebuilt = asyncio.run(_fill(module, settings, bars))
    if carry_over is not None:
        kept = asyncio.run(_carry(ground.database_url, service, carry_over))
        _say(f"{kept} subscriptions are kept, each from where it had been told.")
    return found


async def _clear(url: str, service: str, module: Any, settings: Settings, keeps: bool) -> int:
    """Takes the old tables away, or (`keeps`) aside until what no topic tells again has been carried over."""
    owner = await asyncpg.connect(url)
    try:
        role = role_of(service)
        if await owner.fetchval("select count(*) from pg_stat_activity where usename = $1", role):
            raise CannotStart(f"The service {service} is connected to its database: stop it first.")
        rest = 0
        if await owner.fetchval("select to_regclass($1)", f"{service}.outbox") is not None:
            try:
                rest = await module.build(settings).publish_rest()
            except asyncpg.PostgresError as error:
                _say(f"The old tables cannot be read ({error}): what they held unpublished, if anything, is lost.")
        is_there = await owner.fetchval("select to_regnamespace($1)", service) is not None
        if keeps and is_there and await owner.fetchval("select to_regnamespace($1)", _aside(service)) is None:
            await owner.execute(f"alter schema {service} rename to {_aside(service)}")
        else:  # what stands aside is from before a rebuild that was cut short
            await owner.execute(f"drop schema if exists {service} cascade")
        return rest
    finally:
        await owner.close()


async def _carry(url: str, service: str, carry_over: Any) -> int:
    owner = await asyncpg.connect(url)
    try:
        kept = 0
        if await owner.fetchval("select to_regnamespace($1)", _aside(service)) is not None:
            kept = await carry_over(owner, _aside(service), service)
            await owner.execute(f"drop schema {_aside(service)} cascade")
        return kept
    finally:
        await owner.close()


def _aside(service: str) -> str:
    return f"{service}_before"


async def _fill(module: Any, settings: Settings, bars: Progress) -> Any:
    bar = bars.add_task("")

    def progress(what: str, done: int, total: int) -> None:
        bars.update(bar, description=what, completed=done, total=total)

    return await module.build(settings).rebuild(progress)
