"""The board: each request as readers see it, folded from the stream in memory, and kept a moment later.

What is kept saves folding everything again at a start; the stream is the truth. Every replica folds for its own
readers.
"""

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import takewhile
from weakref import WeakValueDictionary

import structlog

from chassis.admission import Doubtful, believed
from chassis.database import Pool, patiently
from chassis.follower import Follower
from qalqan.envelope import from_structured
from qalqan.events import EVENTS
from qalqan.instants import parse_instant
from qalqan.topics import REQUEST_TOPICS
from services.notify.domain.entry import Entry
from services.notify.domain.fold import Told
from services.notify.domain.projection import Projection
from services.notify.domain.turns import Turn, turns
from services.notify.domain.view import Card, View
from services.notify.store import views
from services.notify.store.views import Kept, row_of
from services.notify.stream import Stream

log = structlog.get_logger()

_TOPICS = frozenset(topic.name for topic in REQUEST_TOPICS)
_KEEP_EVERY_S = 0.2
_IN_MEMORY = 5_000
"""Views in memory; the rest are read from the store when an event concerns them."""
_TAIL = 4_096
_UNSEEN = 1_000
"""Events that are on no board, of which a start may read so many again."""
_TEXTS = 64
_HEAP = 50
_BREATH_S = 0.02
"""For so long events are folded before others have a turn in this event loop."""


class Board:
    """Views of requests: read as they change, or as they stand. A slow reader holds up no other."""

    def __init__(self, pool: Pool, stream: Stream, follower: Follower, unread: Callable[[], float] = lambda: 0) -> None:
        """`unread`: how many records are to be read into the stream."""
        self.seq = 0
        """The views hold every event of the stream up to this number."""
        self._pool = pool
        self._stream = stream
        self._follower = follower
        self._unread = unread
        self._projection = Projection()
        self._in_hand: set[str] = set()
        """Requests of the events that are being folded: their views stay in memory."""
        self._unkept: dict[str, View] = {}
        self._kept_upto = 0
        self._cards: OrderedDict[str, Kept] = OrderedDict()
        self._cards_from = sys.maxsize  # until the store was asked
        self._breathe_at = 0.0
        self._moved = asyncio.Condition()
        self._watched: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        """Whoever watches a request holds its event: set once at its next change."""
        self._texts: OrderedDict[str, Kept] = OrderedDict()
        self._dirty = asyncio.Event()
        self._keeping = asyncio.Lock()
        self.kept = asyncio.Event()
        """Set when the store has something new, for whoever clears it."""

    @property
    def behind(self) -> float:
        """How many records and events are to be read."""
        return self._unread() + self._stream.end - self.seq

    async def follow(self) -> None:
        """Folds the stream, from where the store ends, until cancelled."""
        self.seq = self._kept_upto = await patiently(lambda: views.projected(self._pool))
        # Views may be further than what holds all: cards up to there are the store's.
        self._cards_from = await patiently(lambda: views.newest(self._pool))
        async for page in self._stream.pages(self.seq):
            for at in range(0, len(page), _HEAP):
                await self._take(page[at : at + _HEAP])
                await asyncio.sleep(0)

    async def keep(self) -> None:
        """Writes what changed to the store, until cancelled: at once after a pause, else in small heaps."""
        while True:
            await self._dirty.wait()
            began = time.monotonic()
            await self.flush()
            # What is large is written less often: half of the time is for the events.
            await asyncio.sleep(max(_KEEP_EVERY_S, time.monotonic() - began))

    async def flush(self) -> None:
        """Returns when the store has everything that was folded before."""
        async with self._keeping:
            self._dirty.clear()
            if not self._unkept and self.seq - self._kept_upto < _UNSEEN:
                return
            changed = dict(self._unkept)
            upto = self._projection.upto(self.seq)
            rows, owed = [], list[Turn]()
            try:
                for view in changed.values():
                    rows.append(row_of(view, self._card(view).text))
                    owed += turns(view)
                    await self._breathe()
                await patiently(lambda: views.keep(self._pool, rows, owed, upto))
            except asyncio.CancelledError:
                self._dirty.set()  # the reader for whom it was has gone: `keep` sees to it
                raise
            self._kept_upto = upto
            for request_id, view in changed.items():
                if self._unkept[request_id] is view:
                    del self._unkept[request_id]
            self._projection.forget(_IN_MEMORY, {*self._unkept, *self._in_hand})
            self.kept.set()

    async def reached(self, seq: int) -> None:
        """Returns when the views hold every event up to a number."""
        async with self._moved:
            while self.seq < seq:
                await self._moved.wait()

    async def view(self, request_id: str) -> View | None:
        """A request as it stands."""
        found = self._projection.views.get(request_id)
        if found is None:
            found = (await views.load(self._pool, [request_id])).get(request_id)
        return found

    async def text(self, request_id: str) -> Kept | None:
        """The same as JSON: what has ended is not read for that, only passed on."""
        found = self._projection.views.get(request_id)
        return await views.text(self._pool, request_id) if found is None else self._text(found)

    async def view_changes(self, request_id: str) -> AsyncIterator[Kept]:
        """A request whenever it changed, the first at once (or when there is one); what a slow reader missed is
        in the next."""
        seen = 0
        while True:
            changed = self._watched.setdefault(request_id, asyncio.Event())
            text = await self.text(request_id)
            if text is not None and text.seq > seen:
                seen = text.seq
                yield text
            elif not changed.is_set():
                await changed.wait()

    async def changes(self, after: int) -> AsyncIterator[Kept]:
        """Cards whenever they changed after a number of the stream."""
        place = after
        while True:
            for kept in await self._changed(place):
                place = kept.seq
                yield kept
            async with self._moved:
                while self._newest() <= place:
                    await self._moved.wait()

    async def _changed(self, place: int) -> list[Kept]:
        if place >= self._cards_from:
            return list(takewhile(lambda kept: kept.seq > place, reversed(self._cards.values())))[::-1]
        await self.flush()
        return await views.changed(self._pool, place, _TAIL)

    def _newest(self) -> int:
        return next(reversed(self._cards.values())).seq if self._cards else 0

    async def _take(self, entries: list[Entry]) -> None:
        told_of = [each for entry in entries if (each := await self._believed(entry)) is not None]
        self._in_hand = {request_id for request_id, _ in told_of}
        ahead = await self._load(self._in_hand)
        changed: OrderedDict[str, int] = OrderedDict()
        for request_id, told in told_of:
            if self._projection.take(request_id, told) is not None or request_id in ahead:
                changed[request_id] = told.seq
                changed.move_to_end(request_id)
            await self._breathe()
        for request_id, seq in changed.items():  # once, however many events of it there were
            self._changed_to(self._projection.views[request_id], seq)
            await self._breathe()
        self._in_hand = set()
        self.seq = entries[-1].seq
        if self.behind == 0:  # after a long pause one topic may be read far ahead of another
            for late in self._projection.give_up(self.seq):
                log.error("board.given_up", topic=late.topic, seq=late.seq)
        self._dirty.set()
        async with self._moved:
            self._moved.notify_all()

    def _changed_to(self, view: View, seq: int) -> None:
        self._unkept[view.request_id] = view
        # The number is that of the event by which our readers are told: cards come in their order.
        self._cards[view.request_id] = replace(self._card(view), seq=seq)
        self._cards.move_to_end(view.request_id)
        while len(self._cards) > _TAIL:
            self._cards_from = self._cards.popitem(last=False)[1].seq
        if (watched := self._watched.pop(view.request_id, None)) is not None:
            watched.set()

    def _text(self, view: View) -> Kept:
        """A view as text, made once for all who watch it."""
        text = self._texts.get(view.request_id)
        if text is None or text.seq != view.seq:
            json = view.model_dump_json(by_alias=True)
            text = self._texts[view.request_id] = Kept(view.request_id, view.seq, view.state, view.mode, json)
            if len(self._texts) > _TEXTS:
                self._texts.popitem(last=False)
        return text

    def _card(self, view: View) -> Kept:
        known = self._cards.get(view.request_id)
        if known is not None and known.seq == view.seq:
            return known
        return Kept(view.request_id, view.seq, view.state, view.mode, Card.of(view).model_dump_json(by_alias=True))

    async def _load(self, request_ids: Iterable[str]) -> set[str]:
        """Has the views of these requests in memory; of which of them the store has read further than we have.

        Another replica wrote that: to fold the same events changes nothing more, and yet our readers do not know it.
        """
        missing = [request_id for request_id in request_ids if request_id not in self._projection.views]
        if not missing:
            return set()
        found = await patiently(lambda: views.load(self._pool, missing))
        self._projection.views.update(found)
        return {request_id for request_id, view in found.items() if view.seq > self.seq}

    async def _breathe(self) -> None:
        if time.monotonic() >= self._breathe_at:
            await asyncio.sleep(0)
            self._breathe_at = time.monotonic() + _BREATH_S

    async def _believed(self, entry: Entry) -> tuple[str, Told] | None:
        """An entry of a request, if it is one and to be believed: its request and what it tells."""
        found = entry.event
        if found["topic"] not in _TOPICS:
            return None
        event = from_structured(found)
        if event.type not in EVENTS:
            return None  # a later version's
        subject, at = event.subject or "", parse_instant(found["appendedtime"])
        place = (found["topic"], found["partition"], found["offset"])
        try:
            incoming = await self._follower.believed(partial(believed, event, *place, subject.encode(), at), at)
        except Doubtful as doubt:
            log.error("board.ignored", seq=entry.seq, request_id=event.subject, why=str(doubt))
            return None
        position = int(event.extensions["position"])
        return subject, Told(entry.seq, incoming.topic, position, incoming.recorded_at, incoming.data)
