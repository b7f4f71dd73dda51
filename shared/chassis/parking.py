"""Submissions that wait for what they stand on (DESIGN "What arrives before what it needs")."""

import base64
import json
from dataclasses import dataclass
from datetime import timedelta

from chassis.admission import Record, read_data, record_of
from chassis.facts import Incoming
from chassis.ledger import Parked
from qalqan.envelope import from_kafka
from qalqan.events import EVENTS
from qalqan.sources import Source

WAIT = timedelta(seconds=60)
"""In log time, for a request that nobody knows; then `unknown-request`."""
WAIT_FOR_NEWS = timedelta(seconds=2)
"""In log time, for what a known request does not say yet: it may stand on a topic that the lane has still to read."""
REQUEST_LIMIT = 1_000
SOURCE_LIMIT = 10_000
SOURCE_LIMIT_BYTES = 64 * 1024 * 1024


def park(record: Record, incoming: Incoming, key: str, queue: str, members_offset: int) -> Parked:
    """The row of a submission that waits."""
    whole = {
        "topic": record.topic,
        "timestamp": record.timestamp,
        "key": base64.b64encode(record.key or b"").decode(),
        "headers": [[name, base64.b64encode(value or b"").decode()] for name, value in record.headers],
        "value": base64.b64encode(record.value or b"").decode(),
    }
    return Parked(
        record.offset,
        key,
        queue,
        incoming.event.source,
        json.dumps(whole).encode(),
        incoming.recorded_at,
        members_offset,
    )


def unpark(parked: Parked, partition: int) -> tuple[Record, Incoming]:
    """The submission behind a row: it was judged when it came, so only its parsing is done again."""
    whole = json.loads(parked.record)
    key = base64.b64decode(whole["key"])
    value = base64.b64decode(whole["value"])
    headers = [(name, base64.b64decode(content)) for name, content in whole["headers"]]
    record = record_of(whole["topic"], partition, parked.offset, whole["timestamp"], key, value, headers)
    event = from_kafka(key, headers, value)
    kind = EVENTS[event.type]
    source = Source.parse(event.source)
    assert source is not None
    return record, Incoming(
        record.topic, partition, parked.offset, parked.parked_at, event, kind, read_data(event, kind), source
    )


@dataclass(slots=True)
class Load:
    """What waits of one source, in one lane."""

    count: int = 0
    size: int = 0
    """Bytes, as they are kept."""

    def add(self, row: Parked) -> None:
        """One more waits."""
        self.count += 1
        self.size += len(row.record)

    def remove(self, row: Parked) -> None:
        """It waits no longer."""
        self.count -= 1
        self.size -= len(row.record)


def room_for(row: Parked, of_request: int, of_source: Load) -> bool:
    """Whether one more may wait beside those of its request and those of its source: 1,000 a request; 10,000 and 64 MiB
    a source, since all that waits is kept in memory."""
    return (
        of_request < REQUEST_LIMIT
        and of_source.count < SOURCE_LIMIT
        and of_source.size + len(row.record) <= SOURCE_LIMIT_BYTES
    )
