"""The pure domain of the request service: what an affected state may say of its request, and when."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.facts import Fact, Refused, forwarded
from qalqan.events import RequestCancelled, RequestClosed, RequestRaised
from qalqan.fields import Model
from services.request import store
from services.request.domain import Request, decide, evolve
from tests.unit.builders import T0, example, incoming

RAISED = incoming(example(RequestRaised))


def after(*models: type[Model]) -> Request | None:
    """The register's entry after these, as submitted by the affected state."""
    state = None
    for model in models:
        (fact,) = decide(state, incoming(example(model)), T0)
        state = evolve(state, fact)
    return state


def refusal(state: Request | None, model: type[Model], by: str | None = None) -> str | None:
    """Why it is refused; None: it is not."""
    try:
        decide(state, incoming(example(model), by=by), T0)
    except Refused as refused:
        return refused.reason
    return None


def test_what_is_admitted_is_forwarded_as_it_came() -> None:
    assert decide(None, RAISED, T0) == [Fact(RAISED.data, RAISED.event, T0)]


def test_the_entry_of_a_request() -> None:
    assert after(RequestRaised) == Request(
        request_id="TR-2023-0001", affected_state="TR", mode="actual", revision=1, status="open", content=RAISED.data
    )


@pytest.mark.parametrize("end", [RequestCancelled, RequestClosed])
def test_a_request_ends_once(end: type[Model]) -> None:
    ended = after(RequestRaised, end)
    assert ended is not None
    assert ended.status == {RequestCancelled: "cancelled", RequestClosed: "closed"}[end]
    assert refusal(ended, RequestCancelled) == "request-closed"
    assert refusal(ended, RequestClosed) == "request-closed"
    assert refusal(ended, RequestRaised) == "duplicate-request"


def test_an_id_is_taken_once() -> None:
    assert refusal(after(RequestRaised), RequestRaised) == "duplicate-request"


@pytest.mark.parametrize("end", [RequestCancelled, RequestClosed])
def test_nobody_ends_what_was_not_raised_or_is_anothers(end: type[Model]) -> None:
    assert refusal(None, end) == "unknown-request"
    assert refusal(after(RequestRaised), end, by="KZ") == "not-allowed"


@given(
    st.lists(
        st.tuples(st.sampled_from([RequestRaised, RequestCancelled, RequestClosed]), st.sampled_from(["TR", "KZ"])),
        max_size=6,
    )
)
def test_any_history_folds_to_what_was_decided(history: list[tuple[type[Model], str]]) -> None:
    """At most one raising and one end stand; the stored form and the topic give the same entry."""
    state: Request | None = None
    facts: list[Fact] = []
    stored: dict[str, object] = {}
    for model, by in history:
        record = incoming(example(model), by=by)
        if model is RequestRaised and by != "TR":
            continue  # the checks before the domain refuse it (`bad-data`)
        try:
            stated = decide(state, record, T0)
        except Refused:
            continue
        assert stated == [forwarded(record)]
        for fact in stated:
            before, state = state, evolve(state, fact)
            doc, parts = store.split(before, state)
            stored |= dict(parts)
            assert store.join(json.loads(json.dumps(doc)), stored) == state
        facts += stated
    rebuilt = None
    for fact in facts:
        rebuilt = evolve(rebuilt, fact)
    assert rebuilt == state
    assert len(facts) <= 2
    assert [type(fact.data) for fact in facts[:1]] == [RequestRaised][: len(facts)]
