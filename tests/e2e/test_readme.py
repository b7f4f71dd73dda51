"""The README's own snippet, run as a reader would."""

import asyncio
import os
import re
import sys
from pathlib import Path

from deploy.local.stack import Stack

README = Path(__file__).parents[2] / "README.md"


def snippet() -> str:
    """The one Python block of the README."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return str(code)


async def test_the_snippet_of_the_readme_runs_as_it_stands(system: Stack) -> None:
    """It raises, votes and follows, and prints what it sees, ending with its own vote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        snippet(),
        env={**os.environ, "QALQAN_HOME": str(system.home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    lines = out.decode().splitlines()
    # Topics are read side by side: only its last line is sure.
    assert lines[-1] == "votes 1 VoteCast"
    assert set(lines) <= {"requests 1 RequestRaised", "decisions 1 BallotOpened", "votes 1 VoteCast"}
