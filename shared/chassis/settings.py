"""What a service must be told from outside: read from the environment, once, in main."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from qalqan.access import Access

_SECRETS = ("DATABASE_URL", "KAFKA_SASL_PASSWORD", "PGPASSWORD", "QALQAN_SMTP_URL", "QALQAN_TOKEN")


def read_files(environment: MutableMapping[str, str]) -> None:
    """Sets each secret whose `NAME_FILE` names a file to what stands there: mounted secrets are files. OSError: it
    cannot be read."""
    for name in _SECRETS:
        if path := environment.get(f"{name}_FILE"):
            environment[name] = Path(path).read_text().strip()


class Settings(BaseSettings):
    """Addresses, identity and the two secrets of one replica of one service."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    kafka: Access = Field(default_factory=lambda: Access.of(os.environ))
    """From KAFKA_BOOTSTRAP_SERVERS and, where Kafka asks for them, the other variables that `Access` names."""
    database: str = Field(validation_alias="DATABASE_URL")
    """PostgreSQL, with this service's own role."""
    root: Path = Field(validation_alias="QALQAN_ROOT")
    """root.json: the one thing that is trusted."""
    key: Path = Field(validation_alias="QALQAN_KEY")
    """This service's private key (PKCS 8 PEM)."""
    replica: str = Field(validation_alias="QALQAN_REPLICA")
    """Unique among the replicas of this service and stable over restarts: Kafka's static membership."""
    http_host: str = Field("127.0.0.1", validation_alias="QALQAN_HTTP_HOST")
    http_port: int = Field(0, validation_alias="QALQAN_HTTP_PORT")
    token: str = Field("", validation_alias="QALQAN_TOKEN")
    """What a reader over HTTP may show on a development network: it has the Secretariat's role."""
    tokens: Path | None = Field(None, validation_alias="QALQAN_TOKENS")
    """tokens.json, as `qalqan token` writes it: who else may read, in which role."""
    session_timeout_ms: int = Field(6000, validation_alias="QALQAN_SESSION_TIMEOUT_MS")
    """After how long without a heartbeat another replica takes the lanes."""
    log_level: str = Field("INFO", validation_alias="QALQAN_LOG_LEVEL")
    otlp_endpoint: str = Field(
        "", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    """Where traces are sent (`chassis.traces`); empty: nowhere."""
