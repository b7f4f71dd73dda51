"""The register of requests: what an affected state may say of its request, and when.

Pure: state and event in, facts out. The rules are CONTRACT "RequestRaised" and what follows it.
"""

from datetime import datetime
from typing import Literal

from chassis.facts import Fact, Incoming, Refused, forwarded
from qalqan.events import Mode, RequestAmended, RequestAnticipated, RequestCancelled, RequestClosed, RequestRaised
from qalqan.fields import Model


class Request(Model):
    """A request as the register has it. `revision` counts its contents, from 1; 0: it is only anticipated."""

    request_id: str
    affected_state: str
    mode: Mode
    revision: int
    status: Literal["anticipated", "open", "cancelled", "closed"]
    content: RequestAnticipated | RequestRaised | RequestAmended
    """As the affected state last put it."""


def decide(state: Request | None, incoming: Incoming, now: datetime) -> list[Fact]:
    """Admits what the affected state says of its request, forwarded as it came. Refused: why not."""
    data = incoming.data
    if isinstance(data, RequestAnticipated | RequestRaised):
        if state is not None and (isinstance(data, RequestAnticipated) or state.status != "anticipated"):
            raise Refused("duplicate-request", f"request {data.request_id} exists and is {state.status}")
        _check_mode(state, data)
        return [forwarded(incoming)]
    assert isinstance(data, RequestAmended | RequestCancelled | RequestClosed)
    if state is None:
        raise Refused("unknown-request", f"no request {data.request_id} was raised")
    if incoming.source.name != state.affected_state:
        raise Refused(
            "not-allowed",
            f"request {state.request_id} is {state.affected_state}'s, not {incoming.source.name}'s",
        )
    if state.status in ("cancelled", "closed"):
        raise Refused("request-closed", f"request {state.request_id} is {state.status}")
    if isinstance(data, RequestAmended):
        _check_amendment(state, data)
    return [forwarded(incoming)]


def _check_amendment(state: Request, data: RequestAmended) -> None:
    if state.status == "anticipated":
        raise Refused(
            "not-allowed", f"request {state.request_id} is only anticipated: it is raised before it is amended"
        )
    if data.revision <= state.revision:
        raise Refused("stale", f"revision: {data.revision}, and {state.revision} is there")
    if data.revision > state.revision + 1:
        raise Refused("not-allowed", f"revision: {data.revision}, and {state.revision + 1} is the next")
    _check_mode(state, data)


def _check_mode(state: Request | None, data: RequestAnticipated | RequestRaised | RequestAmended) -> None:
    """Whoever reads one topic tells an exercise by the mode of any event: it stays the same."""
    if state is not None and data.mode != state.mode:
        raise Refused("not-allowed", f"mode: {data.mode}, and request {state.request_id} is of mode {state.mode}")


def evolve(state: Request | None, fact: Fact) -> Request:
    """The register's entry after a fact of the topic `requests`."""
    data = fact.data
    if isinstance(data, RequestAnticipated | RequestRaised):
        is_raised = isinstance(data, RequestRaised)
        return Request(
            request_id=data.request_id,
            affected_state=data.affected_state,
            mode=data.mode,
            revision=1 if is_raised else 0,
            status="open" if is_raised else "anticipated",
            content=data,
        )
    assert state is not None
    if isinstance(data, RequestAmended):
        return state.model_copy(update={"revision": data.revision, "content": data})
    assert isinstance(data, RequestCancelled | RequestClosed)
    status = "cancelled" if isinstance(data, RequestCancelled) else "closed"
    return state.model_copy(update={"status": status})
