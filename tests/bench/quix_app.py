"""The peer of `votes_per_second_vs_quix`: votes checked and counted with Quix Streams, exactly once.

Run by `tests.bench.quix` in a virtual environment of its own (quix.lock). The check is the very one of the bare
consumer of `votes_per_second`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quixstreams import Application, State

from qalqan.signing import PublicKey
from tests.bench.check import checked


def main() -> None:
    """Runs until it is told to stop. `--keys`: a JSON file, key id -> algorithm and public PEM."""
    parser = argparse.ArgumentParser()
    for name in ("kafka", "group", "source", "target", "state", "keys"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--commit-interval", type=float, required=True, help="seconds")
    asked = parser.parse_args()
    keys = {
        key_id: PublicKey.from_pem(pem, algorithm)
        for key_id, (algorithm, pem) in json.loads(Path(asked.keys).read_text()).items()
    }
    app = Application(
        broker_address=asked.kafka,
        consumer_group=asked.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=asked.commit_interval,
        state_dir=asked.state,
        loglevel="WARNING",
    )
    source = app.topic(asked.source, key_deserializer="bytes", value_deserializer="bytes")
    target = app.topic(asked.target, key_serializer="bytes", value_serializer="bytes")

    def count(value: bytes, key: bytes, _: int, headers: list[tuple[str, bytes]], state: State) -> bytes:
        """Checks a vote and counts it: of each state on a ballot the highest sequence."""
        vote = checked(key, headers, value, keys)
        tally: dict[str, Any] = state.get(vote.ballot_id) or {}
        if _sequence(tally, vote.state) < vote.sequence:
            state.set(vote.ballot_id, tally | {vote.state: [vote.sequence, vote.position]})
        return value

    app.dataframe(source).apply(count, stateful=True, metadata=True).to_topic(target)
    app.run()


def _sequence(tally: Mapping[str, Any], state: str) -> int:
    return int(tally[state][0]) if state in tally else 0


if __name__ == "__main__":
    main()
