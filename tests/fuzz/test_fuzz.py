"""A few thousand mutated submissions in every run of the tests; `make fuzz` sends a hundred thousand."""

import os
import time

from deploy.local.stack import Stack
from tests.fuzz import http, run


def seed() -> int:
    """SEED, or another one each time; pytest prints it when the test fails."""
    chosen = int(os.environ.get("SEED") or time.time_ns() % 2**32)
    print(f"SEED={chosen}")
    return chosen


async def test_every_mutated_submission_is_accounted_for(system: Stack) -> None:
    """Each became a public event, a rejection with a reason, or a repetition, and no service noticed more than that."""
    counted = await run.over_kafka(system, seed(), 3_000)
    assert counted["admitted"] > 30
    assert len(counted) > 15, counted


async def test_every_mutated_submission_over_http_is_answered(system: Stack) -> None:
    """With a location, or with a problem and its reason; nothing that was refused was written."""
    counted = await http.over_http(system, seed(), 300)
    assert counted["bad-envelope"] > 10
    assert counted["admitted"] > 5
