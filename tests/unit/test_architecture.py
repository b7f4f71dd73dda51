"""The house's rules as tests (DESIGN "The house"): names of topics, pure domains, no addresses of package
registries."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qalqan.topics import BY_NAME, INBOXES

HOUSE = Path(__file__).parents[2]
TOPICS = HOUSE / "shared" / "qalqan" / "topics.py"

# --- topic names -------------------------------------------------------------------------------------------
# A public topic's name is an ordinary word ("members"). It is one of a topic where it is handed over, listed,
# compared
# or kept: an argument, an element, an operand, a value. As a key or an index it names a field of some data,
# and so it
# does in pydantic's `exclude`. An inbox's name ("inbox.votes") is nothing but a topic's, wherever it stands.

INBOX_NAME = re.compile("|".join(rf"\b{re.escape(topic.name)}\b" for topic in INBOXES))

FIELDS = {
    (
        "shared/qalqan/certificate/registrations.py",
        "members",
    ): "a field of the certificate, named in complaints",
    ("shared/qalqan/replay/scenario.py", "pledges"): "a field of the scenario's format, named in complaints",
}


def topic_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each topic that a module names by a literal."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        parent = parents[node]
        if isinstance(parent, ast.Expr):
            continue  # a docstring
        if INBOX_NAME.search(node.value) or (node.value in BY_NAME and not _names_a_field(node, parents)):
            yield node.lineno, node.value


def _names_a_field(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents[node]
    if isinstance(parent, ast.Dict):
        return node in parent.keys
    if isinstance(parent, ast.Subscript):
        return node is parent.slice
    while isinstance(parent, ast.Set | ast.Dict | ast.keyword):
        if isinstance(parent, ast.keyword):
            return parent.arg == "exclude"
        parent = parents[parent]
    return False


def modules() -> Iterator[Path]:
    for part in ("shared", "services", "deploy"):
        yield from sorted((HOUSE / part).rglob("*.py"))


def test_topics_are_named_in_one_file() -> None:
    found = {
        f"{path.relative_to(HOUSE)}:{line}: {name!r}"
        for path in modules()
        if path != TOPICS
        for line, name in topic_names(ast.parse(path.read_text("utf-8")))
        if (path.relative_to(HOUSE).as_posix(), name) not in FIELDS
    }
    assert not found, "topics are named in qalqan/topics.py alone"


@pytest.mark.parametrize(
    "code",
    [
        "consume('votes')",
        "consume(topic='votes')",
        "T = 'votes'",
        "T = ['votes']",
        "T = ('votes', 1)",
        "T = {'votes'}",
        "T = {'v': 'votes'}",
        "t == 'votes'",
        "t in ('votes',)",
        "def f(t='votes'): ...",
        "sql = 'insert into x values (''inbox.votes'')'.join('inbox.votes')",
        "T = {'inbox.votes': 1}",
        "T = f'inbox.votes/{p}/{o}'",
    ],
)
def test_a_named_topic_is_found(code: str) -> None:
    assert list(topic_names(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "'''votes, and inbox.votes'''",
        "data['votes']",
        "data = {'votes': 1}",
        "m.model_dump(exclude={'ballot': {'votes'}})",
        "votes = 1",
        "say('the votes')",
    ],
)
def test_a_field_is_no_topic(code: str) -> None:
    assert not list(topic_names(ast.parse(code)))


# --- pure domains ------------------------------------------------------------------------------------------

IMPURE_MODULES = {
    "time",
    "random",
    "secrets",
    "os",
    "logging",
    "asyncio",
    "threading",
    "socket",
    "subprocess",
}
IMPURE_NAMES = {
    "now": "a clock",
    "utcnow": "a clock",
    "today": "a clock",
    "uuid1": "a random id",
    "uuid4": "a random id",
    "urandom": "randomness",
    "SystemRandom": "randomness",
    "open": "I/O",
    "print": "I/O",
    "input": "I/O",
}
"""Called as `x.now()` or, where imported so, as `now()`; a field of that name may be read."""


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and fault of each clock, random id or other world that a module reaches for."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [alias.name.split(".")[0] for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                found = [module.split(".")[0], *(alias.name for alias in names)]
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                found = [name] if name in IMPURE_NAMES else []
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                found = ["asyncio"]
            case _:
                continue
        yield from (
            (node.lineno, IMPURE_NAMES.get(name, name))
            for name in found
            if name in IMPURE_MODULES or name in IMPURE_NAMES
        )


def domains() -> list[Path]:
    services = HOUSE / "services"
    return [
        *sorted(services.glob("*/domain.py")),
        *sorted(services.glob("*/domain/**/*.py")),
        HOUSE / "shared" / "chassis" / "facts.py",
    ]


def test_every_service_has_a_domain() -> None:
    services = {path.parent.name for path in (HOUSE / "services").glob("*/main.py")}
    assert services == {"request", "pledge", "consensus", "notify", "secretariat"}
    assert {path.relative_to(HOUSE / "services").parts[0] for path in domains()[:-1]} == services


@pytest.mark.parametrize("path", domains(), ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_a_domain_has_no_clock_no_chance_and_no_world(path: Path) -> None:
    assert not list(impurities(ast.parse(path.read_text("utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "datetime.now(UTC)",
        "datetime.datetime.utcnow()",
        "date.today()",
        "import time",
        "from time import monotonic",
        "import random",
        "from uuid import uuid4",
        "uuid.uuid4()",
        "import secrets",
        "os.urandom(8)",
        "from os import urandom",
        "import logging",
        "async def f(): ...",
        "open('x')",
    ],
)
def test_what_is_not_pure_is_found(code: str) -> None:
    assert list(impurities(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["court.now", "f(now=1)", "from datetime import datetime", "uuid.uuid5(a, b)", "lane.now + window"],
)
def test_what_is_pure_is_not_found(code: str) -> None:
    assert not list(impurities(ast.parse(code)))


# --- addresses ---------------------------------------------------------------------------------------------

REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("maven", "org"),
        ("maven", "apache", "org"),
        ("golang", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
)
"""Hosts that hand out packages and images, put together here so that this file passes too."""

LOCKS = (
    "requirements.in",
    "requirements.lock",
    "tests/bench/quix.in",
    "tests/bench/quix.lock",
    "deploy/local/kafka-jars.lock",
)
ADDRESS = re.compile(r"://|--(?:extra-)?index-url|--find-links")


def tracked() -> list[Path]:
    """Files of the project: what git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return [HOUSE / name for name in listed.split("\0") if name and (HOUSE / name).is_file()]


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is for the machine that installs them to say."""
    found = {
        f"{path.relative_to(HOUSE)}: {host}"
        for path in tracked()
        for host in REGISTRIES
        if host.encode() in path.read_bytes()
    }
    assert not found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (HOUSE / name).read_text("utf-8")
    assert not ADDRESS.findall(text)
    if "--generate-hashes" in text:
        pinned = re.findall(r"^[A-Za-z0-9][^\s=]*==", text, re.MULTILINE)
        assert len(pinned) > 20
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(pinned)


# --- who may import whom -----------------------------------------------------------------------------------


def test_imports_keep_to_their_contracts() -> None:
    """As `make check` does: services apart, domains free of I/O, `qalqan` free of what is behind it."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_mocked() -> None:
    """Real broker, real database, real keys: a second implementation of a seam instead of a pretence."""
    for path in (HOUSE / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not {"mock", "unittest.mock"} & {module, *names}, f"{path.name}:{getattr(node, 'lineno', 0)}"
