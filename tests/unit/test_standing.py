"""The arithmetic of `GET /streams`: quantiles of a histogram, what was counted between two looks, rates."""

import math
from bisect import bisect_left
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from chassis.metrics import EFFECT_SECONDS
from services.notify.domain.standing import Effect, effects, quantile_s, rate

BOUNDS = [*(float(bound) for bound in EFFECT_SECONDS._upper_bounds if bound != math.inf), math.inf]


def histogram(seconds: list[float]) -> dict[float, float]:
    """What Prometheus's client would tell of these."""
    counts = [0] * len(BOUNDS)
    for value in seconds:
        counts[bisect_left(BOUNDS, value)] += 1
    return dict(zip(BOUNDS, map(float, accumulate(counts)), strict=True))


@given(st.lists(st.floats(0.0001, 59), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(seconds: list[float], q: float) -> None:
    found = quantile_s(histogram(seconds), q)
    exact = sorted(seconds)[math.ceil(q * len(seconds)) - 1]
    number = bisect_left(BOUNDS, exact)
    assert found is not None
    assert (BOUNDS[number - 1] if number else 0.0) <= found <= BOUNDS[number]


def test_a_quantile_is_straight_within_its_bucket() -> None:
    """As `histogram_quantile` of Prometheus: three quarters of what lies between 10 and 20 ms are below 17.5 ms."""
    assert quantile_s({0.01: 0, 0.02: 100, math.inf: 100}, 0.75) == 0.0175
    assert quantile_s({0.01: 50, 0.02: 100, math.inf: 100}, 0.5) == 0.01
    assert quantile_s({0.01: 10, math.inf: 10}, 0.5) == 0.005


def test_what_no_bucket_tells_is_nothing() -> None:
    """Nothing counted; or above the largest bound, of which only that much is known."""
    assert quantile_s({}, 0.5) is None
    assert quantile_s({0.01: 0, math.inf: 0}, 0.5) is None
    assert quantile_s({0.01: 1, math.inf: 4}, 0.5) is None


def test_what_was_counted_between_two_looks() -> None:
    """The later part alone; a topic of which nothing came is left out."""
    then = {"votes": histogram([0.5] * 10), "requests": histogram([0.5])}
    now = {"votes": histogram([0.5] * 10 + [0.015] * 5), "requests": histogram([0.5])}
    assert effects(now, then) == {"votes": Effect(p50_ms=15.0, p99_ms=19.9, count=5)}
    assert effects(now, {})["votes"].count == 15


def test_a_rate_is_never_negative() -> None:
    assert rate(30, 10, 4) == 5.0
    assert rate(0, 10, 4) == 0.0
    assert rate(1, 0, 0) == 0.0
