"""How a request before the members is stored: a small document; its ballots and signed events as parts."""

from collections.abc import Mapping
from typing import Any

from chassis.database import Pool
from services.consensus.domain import State

_REVISION, _BALLOT, _VOTE = "revision:", "ballot:", "vote:"


def split(before: State | None, after: State) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The document, and the parts that are new: the request's revisions, ballots opened or closed, votes."""
    known = before.revisions if before is not None else {}
    parts = [
        (f"{_REVISION}{revision}", signed.model_dump(mode="json"))
        for revision, signed in after.revisions.items()
        if known.get(revision) is not signed
    ]
    ballots = {ballot.ballot_id: ballot for ballot in before.ballots} if before is not None else {}
    for ballot in after.ballots:
        old = ballots.get(ballot.ballot_id)
        if old is None or old.outcome != ballot.outcome:
            parts.append((f"{_BALLOT}{ballot.ballot_id}", ballot.model_dump(mode="json", exclude={"votes"})))
        parts.extend(
            (f"{_VOTE}{ballot.ballot_id}:{name}", vote.model_dump(mode="json"))
            for name, vote in ballot.votes.items()
            if old is None or old.votes.get(name) is not vote
        )
    doc = after.model_dump(mode="json", exclude={"revisions", "ballot", "former"})
    doc["ballot"] = after.ballot.ballot_id if after.ballot is not None else None
    doc["former"] = list(after.former)
    return doc, parts


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> State:
    """The state from its document and parts."""

    def named(kind: str) -> dict[str, Any]:
        return {name.removeprefix(kind): part for name, part in parts.items() if name.startswith(kind)}

    def ballot(ballot_id: str) -> dict[str, Any]:
        return {**parts[f"{_BALLOT}{ballot_id}"], "votes": named(f"{_VOTE}{ballot_id}:")}

    whole = {
        **doc,
        "revisions": {int(revision): part for revision, part in named(_REVISION).items()},
        "ballot": ballot(doc["ballot"]) if doc["ballot"] is not None else None,
        "former": {ballot_id: ballot(ballot_id) for ballot_id in doc["former"]},
    }
    return State.model_validate(whole)


async def request_of(pool: Pool, ballot_id: str) -> str | None:
    """The request that a ballot is about."""
    # The second condition is the index's own.
    sql = "select key from part where name = $1 and name like 'ballot:%'"
    found: str | None = await pool.fetchval(sql, f"{_BALLOT}{ballot_id}")
    return found
