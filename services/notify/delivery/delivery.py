"""All that telling others needs, put together."""

from chassis.database import Pool
from services.notify.board import Board
from services.notify.delivery.dispatcher import Dispatcher
from services.notify.delivery.guard import Guard
from services.notify.delivery.urgency import Urgency
from services.notify.delivery.webhook import Webhooks
from services.notify.settings import DeliverySettings
from services.notify.stream import Stream


class Delivery:
    """Webhooks and letters of one replica. `run` goes on until cancelled."""

    def __init__(self, pool: Pool, stream: Stream, board: Board, replica: str, settings: DeliverySettings) -> None:
        self.guard = Guard(settings)
        self.webhooks = Webhooks(self.guard)
        self._dispatcher = Dispatcher(pool, stream, self.webhooks, Urgency(board), replica)
        self.run = self._dispatcher.run

    def close(self) -> None:
        """Lets go of threads."""
        self.guard.close()
