"""The package `qalqan` installs alone: it needs nothing but what it declares, and brings no package called `shared`."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
allowed = set({allowed!r}) | set(sys.stdlib_module_names)

class Fence:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and not top.startswith("_"):
            raise ModuleNotFoundError("not a dependency of qalqan: " + name, name=name)

sys.meta_path.insert(0, Fence())
import qalqan
for module in pkgutil.walk_packages(qalqan.__path__, "qalqan."):
    importlib.import_module(module.name)
    print(module.name)
"""


def dependencies(name: str, known: set[str]) -> set[str]:
    """The distributions that a distribution declares, and theirs; extras left out."""
    try:
        declared = requires(name) or []
    except PackageNotFoundError:
        return known
    for requirement in declared:
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        normal = re.sub(r"[-_.]+", "-", match[0]).lower()
        if normal not in known:
            known.add(normal)
            dependencies(normal, known)
    return known


@pytest.fixture(scope="module")
def allowed() -> list[str]:
    """Top-level modules of qalqan's declared dependencies."""
    wanted = dependencies("qalqan", {"qalqan"})
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & wanted
    )


def test_every_module_imports_with_the_declared_dependencies_alone(allowed: list[str]) -> None:
    """Whatever else is installed beside it is out of reach, and so are the services."""
    assert not {"faststream", "fastapi", "asyncpg", "chassis", "services", "shared"} & set(allowed)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL.format(allowed=[*allowed, "qalqan"])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"qalqan.client", "qalqan.cli", "qalqan.certificate", "qalqan.replay.player"} <= set(done.stdout.split())
