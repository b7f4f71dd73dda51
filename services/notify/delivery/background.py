"""What is known of a message's request: the board's view of it."""

from services.notify.board import Board
from services.notify.domain.letter import About


class Background:
    """Requests as they stand."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def severity(self, request_id: str, seq: int) -> str | None:
        """The severity of a request once the board holds the event `seq`; None: there is no such request."""
        # The board reads the same stream beside us. However long that takes: to go on without it would be to leave out
        # for ever who wants the severe alone.
        await self._board.reached(seq)
        return (await self.about(request_id)).severity

    async def about(self, request_id: str | None) -> About:
        """What a letter says of a request."""
        view = None if request_id is None else await self._board.view(request_id)
        return About() if view is None else About(view.emergency.title, view.emergency.severity)
