"""How a request's pledges are stored: a small document; each pledge, each content and the plan as parts."""

import json
from collections.abc import Mapping
from typing import Any

from services.pledge.domain import State

_PLEDGE, _CONTENT, _PLAN = "pledge:", "content:", "plan"


def split(before: State | None, after: State) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The document, and the parts that changed."""
    old_pledges = before.pledges if before is not None else {}
    old_contents = before.contents if before is not None else {}
    parts: list[tuple[str, Any]] = [
        (f"{_PLEDGE}{pledge_id}", pledge.model_dump(mode="json"))
        for pledge_id, pledge in after.pledges.items()
        if old_pledges.get(pledge_id) is not pledge
    ]
    parts.extend(
        (f"{_CONTENT}{revision}", content.model_dump(mode="json"))
        for revision, content in after.contents.items()
        if old_contents.get(revision) is not content
    )
    if before is None or before.plan is not after.plan:
        parts.append((_PLAN, after.plan.model_dump(mode="json")))
    return after.model_dump(mode="json", exclude={"pledges", "contents", "plan"}), parts


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> State:
    """The state from its document and parts. Pledges come back in the order of their offers."""

    def named(kind: str) -> dict[str, Any]:
        return {name.removeprefix(kind): part for name, part in parts.items() if name.startswith(kind)}

    pledges = sorted(named(_PLEDGE).items(), key=lambda item: (item[1]["offered_at"], item[0]))
    whole = {**doc, "contents": named(_CONTENT), "pledges": dict(pledges), "plan": parts[_PLAN]}
    return State.model_validate_json(json.dumps(whole))
