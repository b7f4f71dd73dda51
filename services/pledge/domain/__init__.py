"""The pure domain of the pledge service: offers, acceptance, allocation, mobilisation, tracking.

No I/O, no clock, no ids, no randomness, no async. The shell calls `decide`, publishes what comes of it and
folds it with `evolve`; deadlines fall in log time through `due_at` and `due`.
"""

from services.pledge.domain.decide import decide
from services.pledge.domain.due import due, due_at
from services.pledge.domain.evolve import evolve
from services.pledge.domain.state import State

__all__ = ["State", "decide", "due", "due_at", "evolve"]
