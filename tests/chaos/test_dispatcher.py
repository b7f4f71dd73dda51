"""Subscribers are told while the dispatcher freezes and its database dies."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from deploy.local.stack import Stack
from tests.chaos.replicas import first, second, until
from tests.integration.receiver import receiving, status
from tests.integration.test_webhooks import Party, deliveries, notify, of, subscribed

__all__ = ["notify"]  # a fixture


async def test_a_frozen_dispatcher_is_replaced_and_takes_nothing_back(
    system: Stack, states: Party, new_request: Callable[..., dict[str, Any]], notify: Any
) -> None:
    """Every event at least once, under one id, whoever sent it; the frozen one ends when it wakes."""
    requests = [new_request() for _ in range(12)]
    wanted = {each["request_id"] for each in requests}
    one = first(system, "notify")
    async with (
        second(system, "notify") as other,
        receiving() as receiver,
        subscribed(notify, receiver.url, filter=of(*requests)) as made,
    ):
        for number, request in enumerate(requests):
            await states["TR"].raise_request(request)
            if number == 4:
                one.signal(signal.SIGSTOP)
                frozen_at = time.monotonic()
            await asyncio.sleep(0.1)
        await receiver.until(lambda calls: {call.event["subject"] for call in calls} == wanted, 30)
        assert time.monotonic() - frozen_at < 20
        assert other.said("dispatcher.began")
        ended = len(one.said("dispatcher.ended"))
        one.signal(signal.SIGCONT)
        await until(lambda: len(one.said("dispatcher.ended")) > ended, "it does not notice that another dispatches")
        ids = {(call.verified(made["secret"])["subject"], call.id) for call in receiver.calls}
        assert len(ids) == len(requests)


async def test_a_killed_database_loses_nothing(
    system: Stack, states: Party, new_request: Callable[..., dict[str, Any]], notify: Any
) -> None:
    """kill -9 twice: every event is told; what failed was written down before its place was passed."""
    requests = [new_request() for _ in range(20)]
    wanted = {each["request_id"] for each in requests}
    async with (
        receiving() as receiver,
        receiving(status("500 No")) as failing,
        subscribed(notify, receiver.url, filter=of(*requests)) as made,
        subscribed(notify, failing.url, filter=of(*requests)) as vain,
    ):
        for number, request in enumerate(requests):
            await states["TR"].raise_request(request)
            if number in (5, 14):
                pid = system.processes["postgres"].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
        await receiver.until(lambda calls: {call.event["subject"] for call in calls} == wanted, 40)
        assert len({(call.verified(made["secret"])["subject"], call.id) for call in receiver.calls}) == len(requests)
        await deliveries(notify, vain, "waiting", len(requests))
