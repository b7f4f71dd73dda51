"""`python -m tests.bench [--only NAME]`: JSON lines on standard output, a table on standard error."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from tests.bench.closed import closed_requests
from tests.bench.cold import cold_demo_s
from tests.bench.figures import Figure, show
from tests.bench.ground import Ground, progress, standing
from tests.bench.line import last_vote_to_authorized, request_to_ballot
from tests.bench.memory import idle_memory_mb
from tests.bench.paint import page_painted
from tests.bench.quix import votes_per_second_vs_quix
from tests.bench.readers import stream_readers
from tests.bench.recovery import recovery_s
from tests.bench.votes import votes_per_second
from tests.bench.webhooks import webhooks
from tests.bench.where import where

# In this order: memory is measured before the services have worked.
ON_A_RUNNING_SYSTEM: dict[str, Callable[[Ground], Awaitable[list[Figure]]]] = {
    "idle_memory_mb": idle_memory_mb,
    "last_vote_to_authorized": last_vote_to_authorized,
    "request_to_ballot": request_to_ballot,
    "stream_readers": stream_readers,
    "page_painted": page_painted,
    "webhooks": webhooks,
    "votes_per_second": votes_per_second,
    "votes_per_second_vs_quix": votes_per_second_vs_quix,
}
ALONE: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
    "cold_demo_s": cold_demo_s,
    "recovery_s": recovery_s,
    "closed_requests": closed_requests,
}
NOT_YET = {
    "allocation_vs_first_come": "comes with the optimiser",
}


def main() -> int:
    """Exit code 0, or 2 for a benchmark that is not there yet."""
    names = [*ON_A_RUNNING_SYSTEM, *ALONE, *NOT_YET]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=names, help="run this one alone")
    parser.add_argument("--samples", type=int, default=150, help="of each side of a latency (default: 150)")
    parser.add_argument("--seed", type=int, default=2023, help="of the random gaps between messages")
    parser.add_argument("--where", action="store_true", help="say where last_vote_to_authorized spends its time")
    asked = parser.parse_args()
    if asked.only in NOT_YET:
        progress.print(f"{asked.only} is not there yet: it {NOT_YET[asked.only]}.")
        return 2
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    uvloop.run(_where(asked.samples, asked.seed) if asked.where else _bench(asked.only, asked.samples, asked.seed))
    return 0


async def _bench(only: str | None, samples: int, seed: int) -> None:
    figures: list[Figure] = []

    def tell(found: list[Figure]) -> None:
        for figure in found:
            print(figure.as_line(), flush=True)
        figures.extend(found)

    on_system = [run for name, run in ON_A_RUNNING_SYSTEM.items() if only in (None, name)]
    if on_system:
        with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as home:
            async with standing(Path(home), samples, seed) as ground:
                for run in on_system:
                    tell(await run(ground))
    for name, alone in ALONE.items():
        if only in (None, name):
            tell(await alone())
    await asyncio.to_thread(show, figures, progress)
    if only is None:
        for name, why in NOT_YET.items():
            progress.print(f"{name}: not there yet, it {why}.")


async def _where(samples: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="qalqan-bench-") as home:
        await where(Path(home), samples, seed, progress)


if __name__ == "__main__":
    sys.exit(main())
