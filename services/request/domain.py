"""The register of requests: what an affected state may say of its request, and when.

Pure: state and event in, facts out. The rules are CONTRACT "RequestRaised" and what follows it.
"""

from datetime import datetime
from typing import Literal

from chassis.facts import Fact, Incoming, Refused, forwarded
from qalqan.events import Mode, RequestCancelled, RequestClosed, RequestRaised
from qalqan.fields import Model


class Request(Model):
    """A request as the register has it. `revision` counts its contents, from 1."""

    request_id: str
    affected_state: str
    mode: Mode
    revision: int
    status: Literal["open", "cancelled", "closed"]


def decide(state: Request | None, incoming: Incoming, now: datetime) -> list[Fact]:
    """Admits what the affected state says of its request, forwarded as it came. Refused: why not."""
    data = incoming.data
    if isinstance(data, RequestRaised):
        if state is not None:
            raise Refused("duplicate-request", f"request {data.request_id} exists and is {state.status}")
        return [forwarded(incoming)]
    assert isinstance(data, RequestCancelled | RequestClosed)
    if state is None:
        raise Refused("unknown-request", f"no request {data.request_id} was raised")
    if incoming.source.name != state.affected_state:
        raise Refused(
            "not-allowed",
            f"request {state.request_id} is {state.affected_state}'s, not {incoming.source.name}'s",
        )
    if state.status != "open":
        raise Refused("request-closed", f"request {state.request_id} is {state.status}")
    return [forwarded(incoming)]


def evolve(state: Request | None, fact: Fact) -> Request:
    """The register's entry after a fact of the topic `requests`."""
    data = fact.data
    if isinstance(data, RequestRaised):
        return Request(
            request_id=data.request_id,
            affected_state=data.affected_state,
            mode=data.mode,
            revision=1,
            status="open",
        )
    assert state is not None
    assert isinstance(data, RequestCancelled | RequestClosed)
    status = "cancelled" if isinstance(data, RequestCancelled) else "closed"
    return state.model_copy(update={"status": status})
