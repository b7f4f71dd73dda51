"""It is your turn: whoever owes something is told, and told again until somebody sees to it (`domain.turns`)."""

import asyncio
import json
from datetime import UTC, datetime

import structlog

from chassis.database import Pool, patiently
from qalqan.envelope import SPEC_VERSION
from qalqan.events import dump
from qalqan.instants import format_instant
from qalqan.sources import service_source
from services.notify.board import Board
from services.notify.domain.subscription import TURN_TYPE
from services.notify.domain.turns import SECRETARIAT_FROM, TurnView, told_again
from services.notify.store import turns
from services.notify.store.turns import Word

log = structlog.get_logger()

_LOOK_AGAIN_S = 1.0
_AT_ONCE = 200
_BEHIND = 200
"""Records. Who is further behind would tell of what has been done meanwhile: after a long pause, or a rebuild."""


class Turns:
    """Tells what is due. Any number of replicas may: each word is said once."""

    def __init__(self, pool: Pool, board: Board, network: str) -> None:
        self._pool = pool
        self._board = board
        self._source = service_source(network, "notify")

    async def tell(self) -> None:
        """Announces turns as they fall due, until cancelled."""
        await asyncio.sleep(_LOOK_AGAIN_S)  # what came while nobody looked is read first
        while True:
            self._board.kept.clear()
            while self._board.behind <= _BEHIND and (due := await patiently(lambda: turns.due(self._pool, _AT_ONCE))):
                words = [self._word(turn) for turn in due]
                await patiently(lambda words=words: turns.tell(self._pool, words))  # type: ignore[misc]
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._board.kept.wait()
            except TimeoutError:
                pass

    def _word(self, turn: TurnView) -> Word:
        now = datetime.now(UTC)
        level = turn.level + 1
        # The first word since it began; it may have been told, ended and begun again before.
        first = turn.told_at[-level] if level else now
        again = told_again(level, first, turn.severity, turn.deadline)
        to = [turn.state, *(["secretariat"] if level >= SECRETARIAT_FROM else [])]
        said = {**dump(turn.model_copy(update={"level": level})), "to": to}
        return Word(turn.turn_id, level, again, json.dumps(self._announcement(turn, level, now, said)))

    def _announcement(self, turn: TurnView, level: int, now: datetime, data: dict[str, object]) -> dict[str, object]:
        return {
            "specversion": SPEC_VERSION,
            "id": f"{turn.turn_id}-{len(turn.told_at)}",
            "source": self._source,
            "type": TURN_TYPE,
            "subject": turn.request_id,
            "time": format_instant(now),
            "datacontenttype": "application/json",
            "mode": turn.mode,
            "turn": turn.state,
            "data": data,
        }
