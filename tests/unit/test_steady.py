"""The verdict on steady load: what is flat, and what is not."""

import pytest

from deploy.local.roles import SERVICES
from tests.bench.steady.sample import Row
from tests.bench.steady.verdict import Outcome, judge, quarters

_WELL = Outcome(asked=36_000, ended=36_000, lost=0, rejections=0, restarts=0)


def an_hour(**growth: float) -> list[Row]:
    """Six samples a minute; each column grows by this share over the hour, evenly."""
    start = {"p50_ms": 12.0, "p99_ms": 30.0}
    start |= {f"{service}_mb": 70.0 for service in SERVICES}
    start |= {f"{service}_lag": 4.0 for service in SERVICES}
    return [
        {"minutes": n / 6, **{name: value * (1 + growth.get(name, 0.0) * n / 360) for name, value in start.items()}}
        for n in range(1, 361)
    ]


def complaints(rows: list[Row], outcome: Outcome = _WELL) -> set[str]:
    """What did not stay as it was."""
    return {check.what for check in judge(rows, 5.0, 100.0, outcome) if not check.ok}


def test_what_stays_is_flat() -> None:
    assert complaints(an_hour()) == set()


def test_a_little_growth_is_flat() -> None:
    assert complaints(an_hour(pledge_mb=0.10, p50_ms=0.08, p99_ms=0.2, notify_lag=1.0)) == set()


@pytest.mark.parametrize(
    ("column", "growth", "what"),
    [
        ("consensus_mb", 0.5, {"memory of consensus, MB", "memory of the services together, MB"}),
        ("pledge_lag", 5.0, {"lag of pledge, records"}),
        ("request_lag", 300.0, {"lag of request, records", "most lag in a sample, records"}),
        ("p50_ms", 0.3, {"latency p50, ms"}),
        ("p99_ms", 0.6, {"latency p99, ms"}),
    ],
)
def test_growth_is_not_flat(column: str, growth: float, what: set[str]) -> None:
    assert complaints(an_hour(**{column: growth})) == what


def test_what_is_lost_rejected_or_started_again_is_not_flat() -> None:
    outcome = Outcome(asked=36_000, ended=35_000, lost=1, rejections=1, restarts=1)
    assert complaints(an_hour(), outcome) == {"requests that did not end", "requests lost", "rejections", "restarts"}


def test_growth_before_the_run_has_warmed_up_does_not_count() -> None:
    rows = an_hour()
    for row in rows[:30]:
        row["consensus_mb"] = 10.0
    assert complaints(rows) == set()


def test_a_run_may_be_too_short_to_tell() -> None:
    with pytest.raises(ValueError, match="too few"):
        quarters([1.0] * 7)
