"""How a request before the members is stored: a small document; its signed events as parts, written once."""

from collections.abc import Mapping
from typing import Any

from services.consensus.domain import State

_REVISION = "revision:"


def split(before: State | None, after: State) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The document, and the parts that are new: the request's revisions, votes."""
    known = before.revisions if before is not None else {}
    parts = [
        (f"{_REVISION}{revision}", signed.model_dump(mode="json"))
        for revision, signed in after.revisions.items()
        if known.get(revision) is not signed
    ]
    if after.ballot is not None:
        old = before.ballot.votes if before is not None and before.ballot is not None else {}
        parts.extend(
            (f"vote:{after.ballot.ballot_id}:{name}", vote.model_dump(mode="json"))
            for name, vote in after.ballot.votes.items()
            if old.get(name) is not vote
        )
    return after.model_dump(mode="json", exclude={"revisions": True, "ballot": {"votes"}}), parts


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> State:
    """The state from its document and parts."""
    ballot = doc["ballot"]
    if ballot is not None:
        prefix = f"vote:{ballot['ballot_id']}:"
        votes = {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
        ballot = {**ballot, "votes": votes}
    revisions = {int(name.removeprefix(_REVISION)): part for name, part in parts.items() if name.startswith(_REVISION)}
    return State.model_validate({**doc, "revisions": revisions, "ballot": ballot})
