"""The system that is looked at: where each part of it is to be reached."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from deploy.local.errors import CannotStart
from deploy.local.private import TOKENS
from qalqan.access import Access
from qalqan.complaints import complaints
from qalqan.runinfo import NotRunning, RunInfo
from services.notify.settings import StandingSettings
from services.notify.standing.replica import Replica

_PATIENCE_S = 2.0
_WATCHES = "notify"
"""Kafka's user who may ask how everything is, where Kafka has users (`acls`)."""


@dataclass(frozen=True, slots=True)
class System:
    """Of run.json where there is one, and of the environment what it names: as each service is told (Settings)."""

    home: Path
    run: RunInfo | None
    kafka: Access
    database: str | None
    root: Path | None
    tokens: Path
    services: tuple[tuple[str, str], ...]
    """Name and address of each replica."""

    @classmethod
    def of(cls, home: Path) -> Self:
        """What can be known here. CannotStart: nothing runs here, and the environment names nothing."""
        try:
            run = RunInfo.load(home / "run.json") if (home / "run.json").exists() else None
            kafka = Access.of(os.environ) if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else _kafka(home, run)
            named = StandingSettings().services  # type: ignore[call-arg]  # from the environment
        except ValidationError as error:
            raise CannotStart(f"The environment cannot be used: {'; '.join(complaints(error))}.") from error
        except NotRunning as error:
            raise CannotStart(f"{error}.") from error
        if kafka is None:
            raise CannotStart(
                f"Nothing runs in {home}: `qalqan up`, or name its place with --home, or the parts of a system as each "
                "service is told of them (KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, QALQAN_ROOT, QALQAN_SERVICES)."
            )
        root = os.environ.get("QALQAN_ROOT") or (run.root if run else None)
        return cls(
            home,
            run,
            kafka,
            os.environ.get("DATABASE_URL") or (run.database if run else None),
            Path(root) if root else None,
            Path(os.environ.get("QALQAN_TOKENS") or home / TOKENS),
            tuple(run.http.items()) if run else named,
        )

    def replicas(self) -> list[Replica]:
        """Each replica, to be asked."""
        return [Replica(service, address, _PATIENCE_S) for service, address in self.services]


def _kafka(home: Path, run: RunInfo | None) -> Access | None:
    if run is None or run.kafka_security is None:
        return None if run is None else run.access()
    passwords: dict[str, str] = json.loads((home / "secrets.json").read_bytes())
    return run.access().model_copy(update={"sasl_username": _WATCHES, "sasl_password": passwords[f"kafka.{_WATCHES}"]})
