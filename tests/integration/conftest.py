"""What the integration tests share beside the system."""

from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local.stack import Stack
from tests.integration.stranger import Stranger


@pytest_asyncio.fixture(scope="session")
async def stranger(system: Stack) -> AsyncIterator[Stranger]:
    """Somebody with nothing but Kafka, the contract, and whatever keys a test wants."""
    async with Stranger.of(system) as made:
        yield made
