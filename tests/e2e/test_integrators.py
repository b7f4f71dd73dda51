"""The pages for integrators, followed word by word: every command and every program on them, as printed."""

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.e2e.pages import Page
from tests.foreign.node.fetched import NODE, node_modules

PAGES = Path(__file__).parents[2] / "docs" / "integrators"
NEEDED = {"node.md": (), "python.md": ("timeout",), "shell.md": ("openssl", "curl", "jq")}
"""What each page takes for granted, beside what comes with this environment."""

Printed = dict[str, "Future[str]"]


def missing(page: str) -> list[str]:
    return [program for program in NEEDED[page] if shutil.which(program) is None]


@pytest.fixture(scope="module")
def printed(system: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """What each page prints, followed in an empty folder of its own: all at once, for they mostly wait."""
    programs = tmp_path_factory.mktemp("bin")
    for name, command in {
        "qalqan": f"{sys.executable} -m qalqan.cli",
        "python": sys.executable,
        "node": str(NODE),
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "QALQAN_HOME": str(system.home)}

    def follow(page: str) -> str:
        folder = tmp_path_factory.mktemp("empty")
        if page == "node.md":
            (folder / "node_modules").symlink_to(node_modules())  # what the page has `npm install` fetch
        return Page.read(PAGES / page).run(folder, environment)

    with ThreadPoolExecutor() as pool:
        yield {page: pool.submit(follow, page) for page in NEEDED if not missing(page)}


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("node.md", ["from Kafka: decisions TR-2026-", "checked: TR-2026-", "valid: TR-2026-"]),
        ("python.md", ["streamed decisions", "from Kafka decisions", "valid: TR-2026-", '201 {"status":"admitted"']),
        ("shell.md", ["Signature Verified Successfully\n" * 3, "valid: TR-2026-"]),
    ],
)
def test_a_page_leads_to_a_decision_that_holds(printed: Printed, page: str, said: list[str]) -> None:
    if tools := missing(page):
        pytest.skip(f"{', '.join(tools)}: not on this machine")
    told = printed[page].result()
    for text in said:
        assert text in told
    assert "NOT VALID" not in told


def test_every_page_is_followed() -> None:
    assert {page.name for page in PAGES.glob("*.md")} == {"README.md", *NEEDED}
