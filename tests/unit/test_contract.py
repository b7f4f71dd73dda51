"""`qalqan contract export`: valid by the official schemas, true of what the code takes, and as committed."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from typer.testing import CliRunner

from deploy.local.roles import SERVICES
from qalqan import topics
from qalqan.cli import app
from qalqan.contract import DIALECT, added, asyncapi, documents, schema_of
from qalqan.events import EVENTS, EventType, dump
from tests.foreign.node.fetched import package
from tests.unit.builders import example

COMMITTED = Path(__file__).parents[2] / "docs" / "contract"
each_kind = pytest.mark.parametrize("kind", EVENTS.values(), ids=[kind.name for kind in EVENTS.values()])


def data_validator(kind: EventType) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema_of(kind), format_checker=jsonschema.FormatChecker())


def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    official = json.loads((package("@asyncapi/specs") / "schemas" / "3.0.0.json").read_text())
    validator = jsonschema.Draft7Validator(official)
    assert [error.message for error in validator.iter_errors(asyncapi())] == []
    broken = asyncapi()
    broken["operations"]["take.inbox.votes"]["action"] = "swallow"
    assert list(validator.iter_errors(broken))


def test_every_topic_with_events_has_its_channel_and_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    assert document["channels"].keys() == {topic.name for topic in topics.ALL} - {"governance"}

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


@each_kind
def test_each_schema_takes_what_the_model_takes(kind: EventType) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(kind))
    assert schema_of(kind)["$schema"] == DIALECT
    data_validator(kind).validate(dump(example(kind.model)))
    assert list(data_validator(kind).iter_errors({}))


def test_openapi_of_every_service_is_valid_by_the_official_schema() -> None:
    """OpenAPI 3.1, and what its schema cannot say: references that lead somewhere, distinct ids of operations."""
    found = added()
    assert found.keys() == {f"openapi/{service}.json" for service in SERVICES}, "renew the installation: make install"
    for name, document in found.items():
        assert document["openapi"].startswith("3.1.")
        assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == [], name
    broken = deepcopy(found["openapi/consensus.json"])
    broken["paths"]["/health"]["get"]["responses"]["200"]["content"] = []
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_without_the_system_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this package on the path of distributions, as for a stranger who installed it alone."""
    monkeypatch.setattr("sys.path", [])
    done = CliRunner().invoke(app, ["contract", "export", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "/openapi.json" in done.stderr
    assert (tmp_path / "asyncapi.json").exists()


def test_the_command_writes_what_is_committed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["contract", "export", str(tmp_path)])
    assert done.exit_code == 0, done.output
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.json")}
    committed = {str(path.relative_to(COMMITTED)): path.read_text() for path in COMMITTED.rglob("*.json")}
    assert written.keys() == (documents() | added()).keys()
    differ = sorted(name for name in written.keys() | committed.keys() if written.get(name) != committed.get(name))
    assert not differ, f"docs/contract is not what the code says: `make contract` renews it ({', '.join(differ)})"
