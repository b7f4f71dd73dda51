"""The pages for integrators, followed word by word: every command and every program on them, as printed."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.e2e.pages import Page
from tests.foreign.node.fetched import NODE, node_modules

PAGES = Path(__file__).parents[2] / "docs" / "integrators"
Follow = Callable[[str], str]


def needs(*programs: str) -> pytest.MarkDecorator:
    """What a page takes for granted."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: not on this machine")


@pytest.fixture
def follow(system: Stack, tmp_path: Path) -> Follow:
    """Follows a page in an empty folder, with the programs of this environment; gives what was printed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {
        "qalqan": f"{sys.executable} -m qalqan.cli",
        "python": sys.executable,
        "node": str(NODE),
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "node_modules").symlink_to(node_modules())  # what the page has `npm install` fetch
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "QALQAN_HOME": str(system.home)}

    def run(page: str) -> str:
        return Page.read(PAGES / page).run(folder, environment)

    return run


@needs("openssl", "curl", "jq")
async def test_shell(follow: Follow) -> None:
    printed = await asyncio.to_thread(follow, "shell.md")
    assert printed.count("Signature Verified Successfully") == 3
    assert printed.splitlines()[-1].startswith("valid: TR-2026-")


async def test_node(follow: Follow) -> None:
    printed = await asyncio.to_thread(follow, "node.md")
    for said in ("from Kafka: decisions TR-2026-", "checked: TR-2026-", "valid: TR-2026-"):
        assert said in printed


@needs("timeout")
async def test_python(follow: Follow) -> None:
    printed = await asyncio.to_thread(follow, "python.md")
    for said in ("streamed decisions", "from Kafka decisions", "valid: TR-2026-", "NOT VALID"):
        assert (said in printed) is (said != "NOT VALID")
    assert printed.count('"status": "admitted"') == 1
    assert '201 {"status":"admitted"' in printed.splitlines()[-1]
