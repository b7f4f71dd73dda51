"""`qalqan doctor`: what is well and what is not, and what to do, in one go.

A check is a small function: it is given the system and gives findings. All are made at once; one that meets an error
or gets no answer finds just that, and holds up no other.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated

import asyncpg
import typer
from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.table import Table
from rich.text import Text

from deploy.local.cli import DEFAULT_HOME, Home, console, sentences
from deploy.local.doctor import database, kafka, machine, services, trust
from deploy.local.doctor.finding import Finding, wrong
from deploy.local.doctor.system import System

Check = Callable[[System], Awaitable[list[Finding]]]

_PATIENCE_S = 8.0
_STYLES = {"well": "green", "look": "yellow", "wrong": "red"}

CHECKS: dict[str, tuple[Check, str]] = {
    "Python": (machine.python, ""),
    "disk": (machine.disk, "look at the home's folder"),
    "runner": (machine.runner, "`qalqan up`"),
    "processes": (machine.processes, "`qalqan status`"),
    "services": (services.services, "see their logs"),
    "Kafka": (kafka.kafka, "start it, or correct KAFKA_BOOTSTRAP_SERVERS"),
    "topics": (kafka.topic_settings, "see Kafka above"),
    "clock of Kafka": (kafka.clock, "see Kafka above"),
    "members and keys": (trust.members, "see Kafka above"),
    "tokens": (trust.tokens, ""),
    "database": (database.database, "start it, or correct DATABASE_URL"),
}
"""Each check by name, and what to do where it gets no answer."""


def doctor(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Say what is well, what is not, and what to do about it. Exit code 1 when something is wrong.

    Looks at the system that `qalqan up` runs here, or at the one that the environment names as each service is told of
    it (KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, QALQAN_ROOT, QALQAN_TOKENS, QALQAN_SERVICES). It changes nothing.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters is a finding
    with sentences():
        system = System.of(home.absolute())
        findings = asyncio.run(examine(system))
    well = not any(finding.verdict == "wrong" for finding in findings)
    if as_json:
        print(json.dumps({"ok": well, "findings": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    else:
        console.print(_table(findings))
    raise typer.Exit(0 if well else 1)


async def examine(system: System) -> list[Finding]:
    """All findings, in the order of the checks."""
    found = await asyncio.gather(*(_made(name, check, remedy, system) for name, (check, remedy) in CHECKS.items()))
    return [finding for findings in found for finding in findings]


async def _made(name: str, check: Check, remedy: str, system: System) -> list[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await check(system)
    except TimeoutError:
        return [wrong(name, f"no answer within {_PATIENCE_S:.0f} s", remedy)]
    except KafkaConnectionError:
        return [wrong(name, f"nothing answers at {system.kafka.bootstrap_servers}", remedy)]
    except (KafkaError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        return [wrong(name, str(error) or type(error).__name__, remedy)]


def _table(findings: list[Finding]) -> Table:
    table = Table("", "what", "seen", "to do")
    for finding in findings:
        mark = Text(finding.verdict, _STYLES[finding.verdict])
        table.add_row(mark, Text(finding.what), Text(finding.seen), Text(finding.remedy))
    return table
