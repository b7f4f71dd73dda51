"""Public events straight from Kafka."""

from collections.abc import AsyncGenerator, Callable

from qalqan.access import Access
from qalqan.client import Client, Doubtful
from qalqan.registry import Root
from qalqan.watch.sighting import Sighting


async def from_kafka(
    access: Access, root: Root, *, from_beginning: bool, tell: Callable[[str], None]
) -> AsyncGenerator[Sighting, None]:
    """Every public event, for ever: Kafka's client finds its way back by itself.

    KafkaError: no broker answers at first. `tell` is given a sentence about a record that is no event at all.
    """
    async with Client(access, root=root) as client, client.follow(from_beginning=from_beginning) as feed:
        while True:
            try:
                yield Sighting(await anext(feed), None)
            except Doubtful as doubtful:
                if doubtful.message is None:
                    tell(f"passed over: {doubtful}")
                else:
                    yield Sighting(doubtful.message, doubtful.why)
