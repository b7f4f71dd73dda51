"""The command line, in a process of its own, beside a running system."""

import asyncio
import os
import sys
from pathlib import Path

from deploy.local.stack import Stack


async def qalqan(system: Stack, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Runs `qalqan` with the system's home: its exit code, what it printed, what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qalqan.cli", *map(str, arguments)),
        env={**os.environ, "QALQAN_HOME": str(system.home), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()
