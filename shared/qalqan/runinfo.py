"""run.json: where a running system is to be reached (CONTRACT "The runner")."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from qalqan.access import Access, Mechanism, Protocol
from qalqan.complaints import why_unreadable

HOME = "QALQAN_HOME"
"""Environment variable that names the runner's folder; `.qalqan` without it."""


READER = "reader"
"""Kafka's user who may read what is public, and write nothing."""


class NotRunning(RuntimeError):
    """There is no run.json, or none that can be read; the text says where and what to do."""


def home() -> Path:
    """The runner's folder: `$QALQAN_HOME`, or `.qalqan` here."""
    return Path(os.environ.get(HOME) or ".qalqan")


class KafkaSecurity(BaseModel):
    """How one shows oneself to a Kafka that asks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: Protocol
    mechanism: Mechanism
    ca: str
    """Path of the PEM that the brokers' certificates are signed by."""
    passwords: str
    """Folder of the passwords, a file for each user: the states, and `reader`, who may only read."""


class RunInfo(BaseModel):
    """What run.json says; unknown fields are kept out, fields of a part that does not run are empty."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    network: str
    kafka: str
    """Bootstrap servers, `host:port` with commas between."""
    kafka_security: KafkaSecurity | None = None
    """None: the brokers let everybody in, on the loopback interface."""
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

    def access(self, user: str = READER) -> Access:
        """How to reach Kafka as a state, or as one who only reads. NotRunning: its password cannot be read."""
        if self.kafka_security is None:
            return Access(bootstrap_servers=self.kafka)
        password = Path(self.kafka_security.passwords) / user
        try:
            return Access(
                bootstrap_servers=self.kafka,
                security_protocol=self.kafka_security.protocol,
                ssl_cafile=self.kafka_security.ca,
                sasl_mechanism=self.kafka_security.mechanism,
                sasl_username=user,
                sasl_password=password.read_text(encoding="ascii").strip(),
            )
        except (OSError, UnicodeError) as error:
            raise NotRunning(f"Kafka's password of {user} cannot be read in {password}: {error}") from error

    def key_path(self, state: str) -> Path:
        """Where the development key of a state is."""
        return Path(self.keys) / f"{state}.pem"
