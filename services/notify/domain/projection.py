"""Views of many requests, folded from one stream in which topics overtake each other. Pure."""

from collections import OrderedDict, deque
from typing import Final

from services.notify.domain.fold import Told, TooEarly, fold
from services.notify.domain.view import View

PATIENCE: Final = 10_000
"""How many events the stream goes on before one that waits for another of its request is given up."""


class Projection:
    """The views in memory, the one that changed last at the end; and what waits for an event of another topic."""

    def __init__(self) -> None:
        self.views: OrderedDict[str, View] = OrderedDict()
        self._held: dict[str, deque[Told]] = {}

    def take(self, request_id: str, told: Told) -> View | None:
        """Folds an event, and whatever waited for it, of each topic in order; the view if it changed."""
        before = self.views.get(request_id)
        waiting = self._held.pop(request_id, deque())
        waiting.append(told)
        while waiting:
            left = self._pass(request_id, waiting)
            if len(left) == len(waiting):
                self._held[request_id] = left
                break
            waiting = left
        after = self.views.get(request_id)
        return None if after is before else after

    def _pass(self, request_id: str, waiting: deque[Told]) -> deque[Told]:
        """Folds what can be; what is left."""
        left: deque[Told] = deque()
        for told in waiting:
            if any(other.topic == told.topic for other in left):
                left.append(told)
                continue
            before = self.views.get(request_id)
            try:
                after = fold(before, told)
            except TooEarly:
                left.append(told)
                continue
            if after is not before:
                self.views[request_id] = after
                self.views.move_to_end(request_id)
        return left

    def upto(self, seq: int) -> int:
        """Up to which event the views hold everything, when the stream was read up to `seq`."""
        return min([seq, *(told.seq - 1 for waiting in self._held.values() for told in waiting)])

    def give_up(self, seq: int) -> list[Told]:
        """Leaves out what has waited too long: what it stands on was not believed, or never comes."""
        late = [request_id for request_id, waiting in self._held.items() if waiting[0].seq < seq - PATIENCE]
        return [told for request_id in late for told in self._held.pop(request_id)]

    def forget(self, at_most: int, busy: set[str]) -> None:
        """Takes out of memory what has ended, and of the rest what was quiet for longest; never what is busy."""
        for request_id, view in list(self.views.items()):
            if request_id not in busy and (not view.is_open or len(self.views) > at_most):
                del self.views[request_id]
