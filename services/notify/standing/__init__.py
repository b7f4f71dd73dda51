"""How everything stands, for `GET /streams`: asked for by whoever watches, gathered at most once a second for all."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from qalqan.access import Access
from services.notify.domain.standing import Streams
from services.notify.standing.groups import Groups
from services.notify.standing.replica import Replica

_FRESH_S = 1.0


class Overview:
    """Nothing is looked at while nobody asks, and nobody waits for a service, or a Kafka, that does not answer."""

    def __init__(self, services: Sequence[tuple[str, str]], kafka: Access, client_id: str) -> None:
        """`services`: the name and address of each replica."""
        self._replicas = [Replica(service, address) for service, address in services]
        self._groups = Groups(kafka, client_id)
        self._turn = asyncio.Lock()
        self._last: Streams | None = None
        self._looked_at = 0.0

    async def look(self) -> Streams:
        """How it stands, as of a second ago at the most."""
        async with self._turn:
            if self._last is None or time.monotonic() - self._looked_at >= _FRESH_S:
                at = datetime.now(UTC)
                (groups, kafka), services = await asyncio.gather(
                    self._groups.look(), asyncio.gather(*(replica.look() for replica in self._replicas))
                )
                self._last = Streams(at=at, services=services, groups=groups, kafka=kafka)
                self._looked_at = time.monotonic()
            return self._last

    async def close(self) -> None:
        """Lets go of all connections."""
        await asyncio.gather(self._groups.close(), *(replica.close() for replica in self._replicas))
