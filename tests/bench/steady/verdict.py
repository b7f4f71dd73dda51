"""Whether a run was flat, by a rule that is fixed before it is run."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deploy.local.roles import SERVICES
from tests.bench.steady.sample import Row

RULE = (
    "After the warm-up, the last quarter of the samples against the first, median against median. Flat is: the memory "
    "(own pages) of the five services together grew by at most 5 %, and of none by more than 10 % and 5 MB; a "
    "service's lag by at most a tenth of a second's submissions, and no sample shows more than ten seconds' of them; "
    "the latency's p50 by at most 10 %, its p99 by at most 25 %. And at least 99 % of the requests asked for came to "
    "their end, none was lost, nothing was rejected and no process started again."
)
_TOGETHER, _EACH, _EACH_MB = 1.05, 1.10, 5.0
_P50, _P99 = 1.10, 1.25
_LAG_S, _LAG_MOST_S = 0.1, 10.0
_ENDED = 0.99


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was to stay as it was: before, after, and the most that it might have become."""

    what: str
    before: float
    after: float
    at_most: float

    @property
    def ok(self) -> bool:
        """Whether it stayed."""
        return self.after <= self.at_most

    def as_json(self) -> dict[str, object]:
        """Rounded, with the outcome."""
        return {name: round(v, 2) if isinstance(v, float) else v for name, v in asdict(self).items()} | {"ok": self.ok}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load came to: requests that were to be raised, that ended, that were lost; rejections; restarts."""

    asked: int
    ended: int
    lost: int
    rejections: int
    restarts: int


def judge(rows: Sequence[Row], warmup_minutes: float, submissions_per_s: float, outcome: Outcome) -> list[Check]:
    """The rule, applied. ValueError: too few samples for quarters."""
    settled = after_warmup(rows, warmup_minutes)
    checks = []

    def grew(what: str, at_most: float, slack: float, *columns: str) -> None:
        before, after = quarters([sum(row[name] for name in columns) for row in settled])
        checks.append(Check(what, before, after, max(before * at_most, before + slack)))

    grew("memory of the services together, MB", _TOGETHER, 0.0, *(f"{service}_mb" for service in SERVICES))
    for service in SERVICES:
        grew(f"memory of {service}, MB", _EACH, _EACH_MB, f"{service}_mb")
    for service in SERVICES:
        grew(f"lag of {service}, records", 1.0, _LAG_S * submissions_per_s, f"{service}_lag")
    most = max(row[f"{service}_lag"] for service in SERVICES for row in settled)
    checks.append(Check("most lag in a sample, records", 0.0, most, _LAG_MOST_S * submissions_per_s))
    grew("latency p50, ms", _P50, 0.0, "p50_ms")
    grew("latency p99, ms", _P99, 0.0, "p99_ms")
    checks += [
        Check("requests that did not end", 0, outcome.asked - outcome.ended, outcome.asked * (1 - _ENDED)),
        Check("requests lost", 0, outcome.lost, 0),
        Check("rejections", 0, outcome.rejections, 0),
        Check("restarts", 0, outcome.restarts, 0),
    ]
    return checks


def after_warmup(rows: Sequence[Row], warmup_minutes: float) -> Sequence[Row]:
    """The samples that count."""
    return [row for row in rows if row["minutes"] > warmup_minutes]


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first quarter and of the last. ValueError: too few."""
    quarter = len(values) // 4
    if quarter < 2:
        raise ValueError(f"{len(values)} samples after the warm-up: too few for quarters")
    return statistics.median(values[:quarter]), statistics.median(values[-quarter:])


def slope_an_hour(minutes: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope, in the values' unit an hour."""
    return statistics.linear_regression([minute / 60 for minute in minutes], values).slope
