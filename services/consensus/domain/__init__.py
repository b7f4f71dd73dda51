"""Ballots: opened by a request, decided by a rule, closed with a certificate. Pure."""

from services.consensus.domain.court import Chain, Court
from services.consensus.domain.decide import decide, due, due_at
from services.consensus.domain.evolve import evolve
from services.consensus.domain.rules import DEFAULT, Rules
from services.consensus.domain.state import State

__all__ = ["DEFAULT", "Chain", "Court", "Rules", "State", "decide", "due", "due_at", "evolve"]
