"""Every Kafka topic of Qalqan, once (CONTRACT "Envelope", DESIGN "The way of an event").

A topic name in any other file of the system fails a test.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from aiokafka.partitioner import murmur2

RECORD_LIMIT_BYTES = 256 * 1024
"""Largest record (key, value, headers) that is judged; beyond it a submission is `too-large`."""

KEYED_PARTITIONS = 12
"""Partitions of every keyed topic, fixed for life: a lane is the same number of each (DESIGN "Lanes")."""

_MIB = 1024 * 1024
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its name, partition count, who may write to it, and the largest record the broker takes."""

    name: str
    partitions: int
    kind: Literal["inbox", "public"]
    max_message_bytes: int

    def config(self) -> dict[str, str]:
        """Topic settings for its creation.

        `LogAppendTime`: time is the log's. Public topics are kept for ever, inboxes longer than any open request
        (400 days); nothing is compacted, since every record of a key counts.
        """
        retention_ms = -1 if self.kind == "public" else 400 * _DAY_MS
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.max_message_bytes),
            # Whatever codec a writer uses, the broker stores plain batches: a reader without the codec's library would
            # be stuck at the first one for ever, and with it everything behind.
            "compression.type": "uncompressed",
        }


def _inbox(name: str, partitions: int = KEYED_PARTITIONS) -> Topic:
    # Four times the record limit: what is a little too large still reaches us and is answered with `too-large`.
    return Topic(name, partitions, "inbox", 1 * _MIB)


def _public(name: str, partitions: int = KEYED_PARTITIONS) -> Topic:
    return Topic(name, partitions, "public", 8 * _MIB)


INBOX_REQUESTS = _inbox("inbox.requests")
INBOX_PLEDGES = _inbox("inbox.pledges")
INBOX_VOTES = _inbox("inbox.votes")
INBOX_GOVERNANCE = _inbox("inbox.governance", partitions=1)

REQUESTS = _public("requests")
PLEDGES = _public("pledges")
VOTES = _public("votes")
DECISIONS = _public("decisions")
MOBILIZATIONS = _public("mobilizations")
REJECTIONS = _public("rejections")
MEMBERS = _public("members", partitions=1)
GOVERNANCE = _public("governance", partitions=1)

INBOXES = (INBOX_REQUESTS, INBOX_PLEDGES, INBOX_VOTES, INBOX_GOVERNANCE)
REQUEST_TOPICS = (REQUESTS, PLEDGES, VOTES, DECISIONS, MOBILIZATIONS)
"""Public topics of a request: keyed by request id, with `mode` and `position` on every event."""
PUBLIC = (*REQUEST_TOPICS, REJECTIONS, MEMBERS, GOVERNANCE)
ALL = (*INBOXES, *PUBLIC)
BY_NAME = {topic.name: topic for topic in ALL}


@lru_cache(maxsize=4096)
def partition_of(key: str, partitions: int = KEYED_PARTITIONS) -> int:
    """The partition of a record key: Java's and aiokafka's default, `(murmur2(key) & 0x7fffffff) % partitions`."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions
