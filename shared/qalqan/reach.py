"""How a command reaches a network: by what it was told, by the environment, or by run.json of one that runs here."""

import os
from pathlib import Path

from pydantic import ValidationError

from qalqan.access import VARIABLES, Access
from qalqan.complaints import why_unreadable
from qalqan.registry import Root
from qalqan.runinfo import RunInfo, home


class BadInput(ValueError):
    """What the person gave does not lead there; the text says what."""


def root_of(path: Path | None) -> Root:
    """root.json at a path, or of the network that runs here. BadInput."""
    path = path or home() / "root.json"
    try:
        return Root.load(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {why_unreadable(error)}; `--root` names root.json of a network") from error


def kafka() -> Access:
    """Kafka as the environment names it (`qalqan.access`), else run.json. BadInput, NotRunning."""
    if not os.environ.get(VARIABLES["bootstrap_servers"]):
        return RunInfo.load().access()
    try:
        return Access.of(os.environ)
    except ValidationError as error:
        raise BadInput(f"{', '.join(VARIABLES.values())}: {why_unreadable(error)}") from error


def address(url: str | None, service: str) -> str:
    """The base address of a service as told, else as run.json has it. BadInput, NotRunning."""
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"--url {url}: not an address such as https://{service}.example")
        return url.rstrip("/")
    found = RunInfo.load().http.get(service)
    if found is None:
        raise BadInput(f"run.json has no address of {service}: `--url` names it")
    return found.rstrip("/")
