"""What must hold whatever was killed or frozen, read from the public topics alone (DESIGN "Lanes").

Each check returns complaints, sentences for a person; none: it holds.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from qalqan import topics
from qalqan.certificate import verify_chain, verify_event
from qalqan.client import Message, Submission, is_closing
from qalqan.envelope import core_digest
from qalqan.registry import Root
from qalqan.topics import BY_NAME, REQUEST_TOPICS

Identity = tuple[str, str]
"""Source and id of an event."""


def complaints(
    messages: Sequence[Message], acknowledged: Iterable[Submission], authorized: Collection[str], root: Root
) -> list[str]:
    """All checks at once.

    `messages`: all that stands on the public topics, raw, in the order of each partition. `acknowledged`:
    what a producer got its answer for. `authorized`: the requests that must have come to their mobilisation.
    """
    once = distinct(messages)
    return [
        *repetitions(messages),
        *positions(messages),
        *partitions(messages),
        *settled_once(once, acknowledged),
        *closed_once(once, authorized),
        *authorized_once(once, authorized),
        *chains(once, root),
    ]


def distinct(messages: Iterable[Message]) -> list[Message]:
    """Each event once, where it stood first: what is not above its key's last position is dropped."""
    last: dict[tuple[str, str | None], int] = {}
    seen: set[tuple[str, Identity]] = set()
    found = []
    for message in messages:
        if message.position is None:
            name = (message.topic, _identity(message))
            if name in seen:
                continue
            seen.add(name)
        else:
            counted = (message.topic, message.event.subject)
            if message.position <= last.get(counted, 0):
                continue
            last[counted] = message.position
        found.append(message)
    return found


def repetitions(messages: Iterable[Message]) -> Iterator[str]:
    """A repeated delivery is the same event at the same position, to the last byte of what is signed."""
    first: dict[tuple[str, Identity], Message] = {}
    for message in messages:
        known = first.setdefault((message.topic, _identity(message)), message)
        if known.position != message.position:
            yield f"{_where(message)} has position {message.position}, but {known.position} at {known.offset}"
        if core_digest(known.event) != core_digest(message.event):
            yield f"{_where(message)} is another event than under the same id at {known.offset}"


def positions(messages: Iterable[Message]) -> Iterator[str]:
    """From 1 without gaps for each (topic, key) in the order of offsets, but for exact repetitions."""
    taken: dict[tuple[str, str | None], list[Identity]] = defaultdict(list)
    for message in messages:
        if BY_NAME[message.topic] not in REQUEST_TOPICS:
            continue
        if message.position is None or message.position < 1:
            yield f"{_where(message)} has no position"
            continue
        places = taken[message.topic, message.event.subject]
        if message.position == len(places) + 1:
            places.append(_identity(message))
        elif message.position > len(places):
            yield f"{_where(message)} has position {message.position} after {len(places)}"
            places.extend([("", "")] * (message.position - len(places) - 1) + [_identity(message)])
        elif places[message.position - 1] != _identity(message):
            yield f"{_where(message)} takes the position of {places[message.position - 1]}"


def partitions(messages: Iterable[Message]) -> Iterator[str]:
    """One partition for each key: the one its digest gives."""
    for message in messages:
        topic = BY_NAME[message.topic]
        key = message.event.subject or ""
        if topic in REQUEST_TOPICS and message.partition != topics.partition_of(key, topic.partitions):
            yield f"{_where(message)}: key {key!r} does not belong to this partition"


def settled_once(once: Iterable[Message], acknowledged: Iterable[Submission]) -> Iterator[str]:
    """What was acknowledged is exactly once on a public topic or in `rejections`."""
    forwarded: Counter[Identity] = Counter()
    rejected: Counter[tuple[str, int, int]] = Counter()
    for message in once:
        if message.topic == topics.REJECTIONS.name:
            rejected[rejected_place(message)] += 1
        else:
            forwarded[_identity(message)] += 1
    for submission in acknowledged:
        place = (submission.topic, submission.partition, submission.offset)
        admitted = forwarded[submission.source, submission.event_id]
        if admitted + rejected[place] != 1:
            yield f"{submission.type} {submission.event_id} of {submission.request_id} at {place}: " + (
                f"{admitted} times on a public topic, {rejected[place]} times rejected"
            )


def unsettled(messages: Iterable[Message], acknowledged: Iterable[Submission]) -> list[Submission]:
    """The submissions that are nowhere yet."""
    found: set[Identity | tuple[str, int, int]] = set()
    for message in messages:
        found.add(rejected_place(message) if message.topic == topics.REJECTIONS.name else _identity(message))
    return [
        submission
        for submission in acknowledged
        if (submission.source, submission.event_id) not in found
        and (submission.topic, submission.partition, submission.offset) not in found
    ]


def closed_once(once: Iterable[Message], authorized: Collection[str]) -> Iterator[str]:
    """One closing event for each ballot of the requests that were decided, at most one for any other."""
    opened: dict[str, str] = {}
    closed: Counter[str] = Counter()
    for message in once:
        if message.name == "BallotOpened":
            opened[message.data["ballot_id"]] = message.data["request_id"]
        elif is_closing(message):
            closed[message.data["ballot_id"]] += 1
    for ballot, request_id in opened.items():
        if closed[ballot] > 1 or (closed[ballot] == 0 and request_id in authorized):
            yield f"ballot {ballot} of {request_id} was closed {closed[ballot]} times"
    yield from (f"ballot {ballot} was closed, but never opened" for ballot in closed if ballot not in opened)


def authorized_once(once: Iterable[Message], authorized: Collection[str]) -> Iterator[str]:
    """Exactly one MobilizationAuthorized for each request that was decided, at most one for any other."""
    authorizations = (message for message in once if message.name == "MobilizationAuthorized")
    counted = Counter(message.event.subject or "" for message in authorizations)
    for request_id in {*counted, *authorized}:
        if counted[request_id] > 1 or (counted[request_id] == 0 and request_id in authorized):
            yield f"{request_id} was authorised {counted[request_id]} times"


def chains(once: Iterable[Message], root: Root) -> Iterator[str]:
    """Serials of each partition of `decisions` from 1 without gaps, every certificate valid."""
    of_partition: dict[int, list[Message]] = defaultdict(list)
    for message in once:
        if message.topic == topics.DECISIONS.name and is_closing(message):
            of_partition[message.partition].append(message)
            yield from (f"{_where(message)}: {reason}" for reason in verify_event(message.event, root))
    for partition, closings in of_partition.items():
        certificates = [message.data["certificate"] for message in closings]
        if certificates[0]["serial"] != 1:
            yield f"decisions-{partition} begins with serial {certificates[0]['serial']}"
        yield from (f"decisions-{partition}: {reason}" for reason in verify_chain(certificates))


def _identity(message: Message) -> Identity:
    return message.event.source, message.event.id


def rejected_place(message: Message) -> tuple[str, int, int]:
    """The record that a SubmissionRejected is about."""
    data = message.data
    return data["source_topic"], data["partition"], data["offset"]


def _where(message: Message) -> str:
    return f"{message.topic}/{message.partition}/{message.offset} ({message.name} of {message.event.subject})"
