"""How urgent a request is: the severity that the board has of it."""

import asyncio

from services.notify.board import Board

_LOOK_AGAIN_S, _LOOKS = 0.02, 250


class Urgency:
    """Severities of requests, as they stand."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def __call__(self, request_id: str, seq: int) -> str | None:
        """The severity of a request once the board holds the event `seq`; None: there is no such request."""
        looks = 0
        while self._board.seq < seq and looks < _LOOKS:  # the board reads the same stream beside us
            await asyncio.sleep(_LOOK_AGAIN_S)
            looks += 1
        view = await self._board.view(request_id)
        return None if view is None else view.emergency.severity
