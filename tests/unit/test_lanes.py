"""Leaving lanes: what must end, ends."""

import asyncio

import pytest

from chassis.tasks import end


async def deaf_to_the_first(cancellations: list[str]) -> None:
    """Loses a cancellation, as `asyncio.wait_for` of Python 3.11 may."""
    for number in ("first", "second"):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancellations.append(number)
    raise asyncio.CancelledError


async def broken() -> None:
    raise ValueError("a bug")


async def test_a_task_that_misses_its_cancellation_is_cancelled_again() -> None:
    cancellations: list[str] = []
    tasks = [asyncio.create_task(deaf_to_the_first(cancellations)), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end(tasks)
    assert cancellations == ["first", "second"]
    assert tasks[0].cancelled()
    with pytest.raises(ValueError, match="a bug"):
        tasks[1].result()


async def test_nothing_to_end_is_nothing_to_wait_for() -> None:
    await end([])
