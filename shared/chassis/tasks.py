"""Tasks that go on for as long as a service runs: what becomes of a failure, and how they are ended."""

import asyncio
from collections.abc import Iterable
from typing import Any

_CANCEL_AGAIN_S = 0.2


class Failure:
    """The first thing that went wrong and was no transient fault: it stops the service. Made in a running loop.

    `happened` is done with the error; nothing is skipped, and what comes behind the first one is told by the logs.
    """

    def __init__(self) -> None:
        self.happened: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def note(self, error: BaseException) -> None:
        """It went wrong."""
        if not self.happened.done():
            self.happened.set_result(error)

    def must_not_end(self, task: asyncio.Task[None]) -> None:
        """For a task that goes on for ever: should it end otherwise than cancelled, it has failed."""
        if not task.cancelled():
            self.note(task.exception() or RuntimeError(f"{task.get_name()} ended by itself"))


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended.

    Once is not enough: up to Python 3.11 `asyncio.wait_for`, in whatever library, loses a cancellation that comes in
    the moment in which what it waits for is done. A lane that lived on would keep this replica out of its group for
    ever.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
