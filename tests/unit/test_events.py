"""The event table: every type has a schema, a valid example, and a form that survives a round trip."""

import json

import pytest

from qalqan.events import EVENTS, TICK, EventType, dump, type_of
from qalqan.topics import ALL, INBOXES, PUBLIC
from tests.unit.builders import EXAMPLES, example

TYPES = [pytest.param(kind, id=kind.name) for kind in (*EVENTS.values(), TICK)]


@pytest.mark.parametrize("kind", TYPES)
def test_a_schema_can_be_made_of_what_is_read_and_of_what_is_written(kind: EventType) -> None:
    for mode in ("validation", "serialization"):
        schema = kind.model.model_json_schema(mode=mode, by_alias=True)
        assert schema["type"] == "object"
        assert schema["title"] == kind.name
        assert schema["description"]
        assert json.loads(json.dumps(schema)) == schema
        assert "from_" not in json.dumps(schema), "fields are named as on the wire"


@pytest.mark.parametrize("kind", TYPES)
def test_the_example_has_all_that_is_required_and_nothing_unknown(kind: EventType) -> None:
    schema = kind.model.model_json_schema(by_alias=True)
    assert set(schema.get("required", ())) <= set(EXAMPLES[kind.name]) <= set(schema["properties"])
    example(kind.model)


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_written_is_read_back_the_same(kind: EventType) -> None:
    data = example(kind.model)
    written = json.loads(json.dumps(dump(data), ensure_ascii=False))
    assert kind.model.model_validate(written) == data
    assert dump(kind.model.model_validate(written)) == written
    given = EXAMPLES[kind.name]
    assert {name: written[name] for name in given if not isinstance(given[name], dict | list)} == {
        name: value for name, value in given.items() if not isinstance(value, dict | list)
    }


@pytest.mark.parametrize("kind", TYPES)
def test_unknown_fields_are_ignored_for_fields_may_be_added(kind: EventType) -> None:
    assert kind.model.model_validate({**EXAMPLES[kind.name], "added_later": 1}) == example(kind.model)


@pytest.mark.parametrize("kind", TYPES)
def test_data_cannot_be_changed(kind: EventType) -> None:
    data = example(kind.model)
    name = next(iter(kind.model.model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(data, name, getattr(data, name))


def test_every_type_has_its_place() -> None:
    for type_, kind in EVENTS.items():
        assert type_ == kind.type == type_of(kind.name) == f"qalqan.{kind.model.__name__}.v1"
        assert kind.topic in PUBLIC
        assert kind.inbox is None or kind.inbox in INBOXES
        assert (kind.inbox is None) == (kind.signer == "service"), "what a service states is submitted by nobody"
        assert (kind.scope is not None) == (kind.signer == "state")
        for field in (kind.actor, kind.mints):
            assert field is None or field in kind.model.model_fields
    assert TICK.type not in EVENTS


def test_a_submission_stands_on_the_topic_of_its_owner() -> None:
    """One writer for each public topic: all submissions of a public topic come by one inbox."""
    inboxes = {kind.topic: set() for kind in EVENTS.values()}  # type: ignore[var-annotated]
    for kind in EVENTS.values():
        if kind.inbox is not None:
            inboxes[kind.topic].add(kind.inbox.name)
    assert all(len(names) <= 1 for names in inboxes.values())


def test_topics_are_named_once_and_keyed_alike() -> None:
    assert len({topic.name for topic in ALL}) == len(ALL) == 12
    single = {topic.name for topic in ALL if topic.partitions == 1}
    assert single == {"members", "governance", "inbox.governance"}
    assert {topic.partitions for topic in ALL} == {1, 12}
    assert {topic.config()["message.timestamp.type"] for topic in ALL} == {"LogAppendTime"}
    assert {topic.config()["cleanup.policy"] for topic in ALL} == {"delete"}
