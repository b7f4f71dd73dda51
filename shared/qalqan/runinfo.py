"""run.json: where a running system is to be reached (CONTRACT "The runner")."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from qalqan.complaints import why_unreadable

HOME = "QALQAN_HOME"
"""Environment variable that names the runner's folder; `.qalqan` without it."""


class NotRunning(RuntimeError):
    """There is no run.json, or none that can be read; the text says where and what to do."""


def home() -> Path:
    """The runner's folder: `$QALQAN_HOME`, or `.qalqan` here."""
    return Path(os.environ.get(HOME) or ".qalqan")


class RunInfo(BaseModel):
    """What run.json says; unknown fields are kept out, fields of a part that does not run are empty."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    network: str
    kafka: str
    """Bootstrap servers, `host:port` with commas between."""
    root: str
    """Path of root.json."""
    keys: str
    """Folder of the development keys, one `<STATE>.pem` each."""
    database: str | None = None
    http: dict[str, str] = {}
    """Base address of each service's HTTP side, by service."""
    dashboard: str | None = None
    token: str | None = None
    """For `Authorization: Bearer <token>` when reading over HTTP."""
    pids: dict[str, int] = {}

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Reads run.json, by default the one of `home()`. NotRunning: not there, or not readable."""
        path = path or home() / "run.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise NotRunning(f"{path} is not there: start the system with `qalqan up`, or set {HOME}") from error
        except (OSError, ValidationError) as error:
            raise NotRunning(f"{path} cannot be read: {why_unreadable(error)}") from error

    def key_path(self, state: str) -> Path:
        """Where the development key of a state is."""
        return Path(self.keys) / f"{state}.pem"
