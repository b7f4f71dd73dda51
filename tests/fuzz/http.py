"""The same submissions at the doors: `POST /events`, in both modes, with and without `?validate=only`."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import httpx2

from deploy.local.stack import Stack
from qalqan import topics
from tests.fuzz.account import REASONS, Published, settle
from tests.fuzz.grammar import Grammar, Shot
from tests.fuzz.run import PUBLIC, Calm, drained, world
from tests.integration.stranger import OWNERS, Place, Raw, Stranger

AT_ONCE = 8
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_UNSENDABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LOCATION = re.compile(r"/submissions/([a-z.]+)/(\d+)/(\d+)")


async def over_http(system: Stack, seed: int, count: int) -> Counter[str]:
    """What became of `count` mutated submissions: a problem's reason, or what became of the record that was written.

    AssertionError: an answer that is none of the contract's, or a record that nobody was told of.
    """
    rng = Random(f"http {seed}")  # other ids than over Kafka
    with Calm(system):
        async with Stranger.of(system) as stranger, httpx2.AsyncClient(timeout=20) as client:
            grammar = Grammar(rng, await world(stranger, rng))
            shots = [grammar.shot() for _ in range(count)]
            public = {tp: end for topic in PUBLIC for tp, end in (await stranger.ends(topic)).items()}
            inboxes = {tp: end for topic in topics.INBOXES for tp, end in (await stranger.ends(topic)).items()}
            doors = Doors(stranger, client)
            limit = asyncio.Semaphore(AT_ONCE)

            async def one(shot: Shot) -> None:
                async with limit:
                    await doors.post(shot, validate_only=shot.record.size() % 3 == 0)

            await asyncio.gather(*map(one, shots))
            written = await stranger.written_since(inboxes)
            await drained(stranger)
            published = Published.of(await stranger.written_since(public))
    places = {Place(record.topic, record.partition, record.offset): record for record in written}
    assert places.keys() == doors.taken.keys(), "what was written is not what was answered with a location"
    # The record is the door's own spelling of the event, so its rejection has that for an original.
    sent = [(Shot(as_written(record), doors.taken[place].how), place) for place, record in places.items()]
    return doors.answers + settle(sent, published)


class Doors:
    """Posts, and notes what it is told."""

    def __init__(self, stranger: Stranger, client: httpx2.AsyncClient) -> None:
        self.answers: Counter[str] = Counter()
        self.taken: dict[Place, Shot] = {}
        self._stranger = stranger
        self._client = client

    async def post(self, shot: Shot, validate_only: bool) -> None:
        """AssertionError: the answer is neither a location, nor nothing, nor a problem with a reason."""
        url = f"{self._stranger.run.http[OWNERS[shot.record.topic.name]]}/events"
        answer = await self._client.post(
            url,
            params={"validate": "only"} if validate_only else {},
            headers=[*_headers(shot)],
            content=shot.record.value or b"",
        )
        what = f"{answer.status_code} {answer.text[:500]} ({', '.join(shot.how)}): {str(shot.record)[:1500]}"
        if answer.status_code == 202:
            assert not validate_only, what
            location = _LOCATION.fullmatch(answer.headers["location"])
            assert location is not None, what
            self.taken[Place(location[1], int(location[2]), int(location[3]))] = shot
        elif answer.status_code == 204:
            assert validate_only, what
            self.answers["valid (validate=only)"] += 1
        elif answer.status_code == 400 and "json" not in answer.headers.get("content-type", ""):
            self.answers["not HTTP"] += 1  # the server's own word: the header is against RFC 9110
        else:
            assert answer.status_code in (413, 422), what
            assert answer.headers["content-type"] == "application/problem+json", what
            problem = answer.json()
            assert problem["reason"] in REASONS, what
            assert problem["detail"].strip(), what
            self.answers[problem["reason"]] += 1


def _headers(shot: Shot) -> Iterator[tuple[bytes, bytes]]:
    """Kafka's headers as HTTP's, not percent-encoded: any byte that a client can send at all."""
    for name, content in shot.record.headers:
        raw = _UNSENDABLE.sub(b"", content or b"").strip()
        label = name.replace("ce_", "ce-")
        if _TOKEN.fullmatch(label) and len(raw) < 30_000:
            yield label.encode(), raw


def as_written(record: object) -> Raw:
    """A record of an inbox as it was sent."""
    headers = [(name, content) for name, content in record.headers]  # type: ignore[attr-defined]
    topic = topics.BY_NAME[record.topic]  # type: ignore[attr-defined]
    return Raw(topic, record.key, record.value, headers, record.partition)  # type: ignore[attr-defined]
