"""What the decisions allow: which are in force, and which needs the mechanism may be planned for."""

from services.pledge.domain.state import Content, Decision, State


def in_force(state: State) -> list[Decision]:
    """The decisions in force, oldest first: a later one on the same needs replaces an earlier, an end all.

    CONTRACT, MobilizationAuthorized. One on an amendment replaces all on what was asked for before; a ballot on it
    that closes and does not reach ends them.
    """
    valid = state.decided[state.void :]
    if state.ended or not valid:
        return []
    newest = valid[-1].revision
    latest = {item: decision for decision in valid if decision.revision == newest for item in decision.items}
    return [each for each in valid if any(latest.get(item) is each for item in each.items)]


def planned_content(state: State) -> Content | None:
    """The content that the plan answers: the decided one, else the one that binds; None: not read yet."""
    return state.contents.get(state.decided[-1].revision if state.decided else state.revision)


def scope(state: State) -> frozenset[str]:
    """The needs that mechanism pledges are planned for.

    Before the mobilisation those that the first decision, or else the open ballots, are about (all, when
    nothing is known of a ballot): the plan kept ready. Then those of the decisions in force.
    """
    content = planned_content(state)
    if content is None:
        return frozenset()
    needs = frozenset(need.need_id for need in content.needs)
    if state.mobilization is not None:
        return needs & {item for decision in in_force(state) for item in decision.items}
    if state.decided:
        return needs & frozenset(state.decided[0].items)
    if state.ballots:
        return needs & {item for ballot in state.ballots.values() for item in ballot.items}
    return needs
