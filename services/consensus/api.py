"""HTTP out: ballots, the positions taken on them, and the certificates of those that are closed."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from chassis.database import Pool
from chassis.lookup import Lookup
from chassis.reading import Cursor, Limit, Page, Reads, Where, answer, guarded, listed, readable, shown, unknown
from chassis.tokens import Tokens
from qalqan.certificate import Certificate, Outcome
from qalqan.events import BallotRecord, Mode, Position
from qalqan.fields import Digest, Instant, Model, RequestId, State
from qalqan.jsontext import canonical, digest
from qalqan.topics import DECISIONS, partition_of
from services.consensus import domain, store
from services.consensus.domain.state import Ballot

_CLOCKS_APART = timedelta(seconds=10)
"""Between brokers: the closing event was taken by one, what settled it perhaps by another."""


class VoteView(Model):
    """A state's vote that counts."""

    state: State
    sequence: int
    position: Position
    reason: str | None
    recorded_at: Instant


class BallotView(Model):
    """A ballot: its record, the votes that count so far or counted, and how it was closed. `outcome` null: open."""

    ballot_id: Digest
    request_id: RequestId
    mode: Mode
    ballot: BallotRecord
    outcome: Outcome | None
    decided_at: Instant | None
    decision_digest: Digest | None
    votes: list[VoteView]

    @classmethod
    def of(cls, ballot: Ballot) -> "BallotView":
        """A ballot as readers see it."""
        return cls(
            ballot_id=ballot.ballot_id,
            request_id=ballot.record.request_id,
            mode=ballot.record.mode,
            ballot=ballot.record,
            outcome=ballot.outcome,
            decided_at=ballot.decided_at,
            decision_digest=ballot.decision_digest,
            votes=[
                VoteView(
                    state=vote.state,
                    sequence=vote.sequence,
                    position=vote.position,
                    reason=vote.reason,
                    recorded_at=vote.recorded_at,
                )
                for _, vote in sorted(ballot.votes.items())
            ],
        )


def router(pool: Pool, lookup: Lookup, tokens: Tokens) -> APIRouter:
    """Ballots, for those who show a token."""
    reads, routes = Reads(pool, store.join), guarded(tokens)

    async def found(ballot_id: str) -> Ballot:
        request_id = await store.request_of(pool, ballot_id)
        state = None if request_id is None else await reads.one(request_id)
        if state is None:
            raise unknown(f"ballot {ballot_id}")
        return next(ballot for ballot in state.ballots if ballot.ballot_id == ballot_id)

    @routes.get(
        "/ballots",
        summary="Ballots, by request",
        response_model=Page[BallotView],
        responses=readable(422),
    )
    async def ballots(
        request: Request,
        state: Annotated[State | None, Query(description="The affected state")] = None,
        mode: Annotated[Mode | None, Query()] = None,
        outcome: Annotated[Outcome | None, Query()] = None,
        open: Annotated[bool | None, Query(description="Whether it takes votes")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Of each request the oldest first."""

        def wanted(ballot: Ballot) -> bool:
            return outcome in (None, ballot.outcome) and open in (None, ballot.outcome is None)

        # A closed request has no open ballot: those need not be looked through.
        where = Where({"affected_state": state, "mode": mode}, True if open else None)
        page, behind = await reads.page(where, _ballots, limit, cursor, wanted)
        return listed(request, map(BallotView.of, page), behind)

    @routes.get("/ballots/{ballot_id}", summary="One ballot", response_model=BallotView, responses=readable(404, 422))
    async def ballot(request: Request, ballot_id: Annotated[Digest, Path()]) -> Response:
        """Its record, whose digest its id is, and the votes."""
        return shown(request, BallotView.of(await found(ballot_id)))

    @routes.get(
        "/ballots/{ballot_id}/certificate",
        summary="The certificate of a closed ballot",
        response_model=Certificate,
        responses=readable(404, 409, 422),
    )
    async def certificate(request: Request, ballot_id: Annotated[Digest, Path()]) -> Response:
        """In the form that its digest is of. 409: the ballot is open."""
        closed = await found(ballot_id)
        if closed.decided_at is None:
            raise HTTPException(409, f"ballot {ballot_id} is open until {closed.record.deadline.isoformat()}")
        partition = partition_of(closed.record.request_id, DECISIONS.partitions)
        async for record in lookup.since(DECISIONS.name, partition, closed.decided_at - _CLOCKS_APART):
            text = _certificate(record.value)
            if text is not None and digest(text) == closed.decision_digest:
                return answer(request, text)
        raise unknown(f"certificate of ballot {ballot_id}")

    @routes.get(
        "/requests/{request_id}/ballots",
        summary="The ballots on a request",
        response_model=Page[BallotView],
        responses=readable(404, 422),
    )
    async def of_request(
        request: Request, request_id: Annotated[RequestId, Path(examples=["TR-2023-0001"])]
    ) -> Response:
        """The oldest first."""
        state = await reads.one(request_id)
        if state is None:
            raise unknown(f"request {request_id}")
        return listed(request, map(BallotView.of, state.ballots), None)

    return routes


def _ballots(state: domain.State) -> Sequence[Ballot]:
    return state.ballots


def _certificate(value: bytes | None) -> bytes | None:
    """The certificate of a closing event, canonical; None: it is another event."""
    try:
        found = json.loads(value or b"").get("certificate")
        return None if found is None else canonical(found)
    except (ValueError, AttributeError):
        return None
