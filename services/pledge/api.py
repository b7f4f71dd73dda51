"""HTTP out: pledges, and the mobilisations that they are part of."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from chassis.database import Pool
from chassis.reading import Cursor, Limit, Page, Reads, Where, guarded, listed, readable, shown, unknown
from chassis.tokens import Tokens
from qalqan.events import Mobilization, Mode, PledgeContent
from qalqan.fields import Identifier, Instant, Model, Quantity, RequestId, Revision
from qalqan.fields import State as StateCode
from services.pledge import store
from services.pledge.domain import State
from services.pledge.domain.state import PledgeState, ReportKind, Stage

_Request = Annotated[RequestId, Path(examples=["TR-2023-0001"])]


class PledgeView(Model):
    """A pledge: its current content, where it stands in its life, and what was reported of it, by line ("": a report
    named none). `mode` null: its request is not known yet."""

    request_id: RequestId
    pledge_id: Identifier
    state: StateCode
    mode: Mode | None
    stage: Stage
    revision: Revision
    accepted: int
    offered_at: Instant
    offer: PledgeContent
    reports: dict[ReportKind, dict[str, Quantity]]

    @classmethod
    def of(cls, state: State, pledge: PledgeState) -> "PledgeView":
        """A pledge as readers see it."""
        return cls(
            request_id=state.request_id,
            pledge_id=pledge.offer.pledge_id,
            state=pledge.offer.pledging_state,
            mode=state.mode,
            stage=pledge.stage,
            revision=pledge.revision,
            accepted=pledge.accepted,
            offered_at=pledge.offered_at,
            offer=pledge.offer,
            reports=pledge.reports,
        )


def router(pool: Pool, tokens: Tokens) -> APIRouter:
    """Pledges and mobilisations, for those who show a token."""
    reads, routes = Reads(pool, store.join), guarded(tokens)

    @routes.get("/pledges", summary="Pledges, by request", response_model=Page[PledgeView], responses=readable(422))
    async def pledges(
        request: Request,
        request_id: Annotated[RequestId | None, Query(alias="request")] = None,
        state: Annotated[StateCode | None, Query(description="The pledging state")] = None,
        mode: Annotated[Mode | None, Query()] = None,
        stage: Annotated[Stage | None, Query()] = None,
        channel: Annotated[Literal["mechanism", "bilateral"] | None, Query()] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Of each request in the order of the offers."""

        def wanted(pledge: PledgeView) -> bool:
            return (
                state in (None, pledge.state)
                and mode in (None, pledge.mode)
                and stage in (None, pledge.stage)
                and channel in (None, pledge.offer.channel)
            )

        return listed(request, *await reads.page(Where({}, key=request_id), _pledges, limit, cursor, wanted))

    @routes.get(
        "/pledges/{request_id}/{pledge_id}",
        summary="One pledge",
        response_model=PledgeView,
        responses=readable(404, 422),
    )
    async def pledge(
        request: Request, request_id: _Request, pledge_id: Annotated[Identifier, Path(examples=["AZ-1"])]
    ) -> Response:
        """Its content, the affected state's answer, and its way."""
        state = await reads.one(request_id)
        if state is None or pledge_id not in state.pledges:
            raise unknown(f"pledge {pledge_id} for request {request_id}")
        return shown(request, PledgeView.of(state, state.pledges[pledge_id]))

    @routes.get(
        "/mobilizations",
        summary="Mobilisations, by request",
        response_model=Page[Mobilization],
        responses=readable(422),
    )
    async def mobilizations(
        request: Request,
        mode: Annotated[Mode | None, Query()] = None,
        open: Annotated[bool | None, Query(description="Whether its request may still change")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Each as it was last stated on its topic."""

        def wanted(mobilization: Mobilization) -> bool:
            return mode in (None, mobilization.mode)

        return listed(request, *await reads.page(Where({}, open), _mobilizations, limit, cursor, wanted))

    @routes.get(
        "/mobilizations/{request_id}",
        summary="The mobilisation of a request",
        response_model=Mobilization,
        responses=readable(404, 422),
    )
    async def mobilization(request: Request, request_id: _Request) -> Response:
        """As it was last stated on its topic. 404 also while none is authorised."""
        state = await reads.one(request_id)
        for found in _mobilizations(state) if state is not None else ():
            return shown(request, found)
        raise unknown(f"mobilisation of request {request_id}")

    return routes


def _pledges(state: State) -> Sequence[PledgeView]:
    return [PledgeView.of(state, pledge) for pledge in state.pledges.values()]


def _mobilizations(state: State) -> Sequence[Mobilization]:
    """What was last stated, if a mobilisation is authorised: one a request, so its id is made from the request's."""
    last, mode = state.mobilization, state.mode
    if last is None or mode is None:
        return []
    return [
        Mobilization(
            request_id=state.request_id,
            mobilization_id=f"M-{state.request_id}",
            revision=last.revision,
            mode=mode,
            decisions=last.decisions,
            authorized_at=last.authorized_at,
            lines=state.plan.lines,
            coverage=state.plan.coverage,
            optimality_gap=state.plan.optimality_gap,
        )
    ]
