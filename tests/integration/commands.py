"""The command line beside a running system, in this process: what a command imports is imported once."""

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from deploy.local.stack import Stack
from qalqan.cli import app


async def qalqan(system: Stack, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Runs `qalqan` with the system's home: its exit code, what it printed, what it complained about."""
    done = await asyncio.to_thread(
        CliRunner().invoke, app, [*map(str, arguments)], env={"QALQAN_HOME": str(system.home), **environment}
    )
    return done.exit_code, done.stdout, done.stderr
