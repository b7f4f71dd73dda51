"""A service with marks at each stage of its lanes, for `where`: `python -m tests.bench.traced consensus`.

The chassis knows nothing of it: the stages are wrapped from outside.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from chassis import ledger
from chassis.bus import Bus, PollingConsumer
from chassis.lane import Lane
from chassis.lanes import Lanes
from chassis.service import run
from tests.bench.marks import mark


def main() -> None:
    """Runs the service named on the command line."""
    name = sys.argv[1]
    _wrap_all(name)
    module = importlib.import_module(f"services.{name}.main")
    run(module.build, name)


def _wrap_all(service: str) -> None:
    def stage(what: str) -> str:
        return f"{service}.{what}"

    def keys_of(records: Any) -> list[str]:
        return [f"{record.topic}|{(record.key or b'').decode('utf-8', 'replace')}" for record in records]

    _after(
        PollingConsumer,
        "getmany",
        stage("polled"),
        lambda _, found: keys_of([r for batch in found.values() for r in batch]),
    )
    _before(Lanes, "feed", stage("fed"), lambda _, records: keys_of(records))
    _before(Lane, "_transact", stage("taken"), lambda _, batch, *more: keys_of(batch))
    _after(Lane, "_judge", stage("judged"), lambda args, _: keys_of(args[1]))
    _after(Lane, "_draft", stage("drafted"), lambda args, _: keys_of(args[1]))
    _before(ledger, "commit", stage("committing"), lambda _, tx: _out(tx))
    _after(ledger, "commit", stage("committed"), lambda args, _: _out(args[1]))
    _before(Bus, "publish", stage("publishing"), lambda _, wave: [f"{o.topic}|{o.key.decode()}" for o in wave])
    _after(Bus, "publish", stage("published"), lambda args, _: [f"{o.topic}|{o.key.decode()}" for o in args[1]])


def _out(tx: Any) -> list[str]:
    return [f"{out.topic}|{out.key.decode()}" for out, _ in tx.outgoing]


def _before(owner: Any, name: str, what: str, keys: Callable[..., Sequence[str]]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)  # FastStream looks at a handler's signature
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        for key in keys(*args):
            mark(what, key)
        return await inner(*args, **kwargs)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, what: str, keys: Callable[[Any, Any], Sequence[str]]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)  # FastStream looks at a handler's signature
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await inner(*args, **kwargs)
        for key in keys(args, result):
            mark(what, key)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    main()
