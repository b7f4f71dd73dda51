"""OpenAPI 3.1 of every service, and schemathesis against the running ones (bounded; QALQAN_SCHEMATHESIS_EXAMPLES)."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.local.roles import SERVICES
from qalqan import topics
from qalqan.events import EVENTS
from qalqan.runinfo import RunInfo
from tests.integration.stranger import OWNERS, Stranger

FEW = 4
EXAMPLES = int(os.environ.get("QALQAN_SCHEMATHESIS_EXAMPLES", FEW))
"""Cases for each operation; `make test` has few, a longer run as many as one likes."""

WITHOUT_EVENTS = """
[[operations]]
include-path = "/events"
phases.coverage.enabled = false
"""
"""The bounded run leaves out a thousand ways to misspell an event's data: unsigned, none of them is looked at."""

LEFT_OUT = {
    "positive_data_acceptance": "no schema can say that a signature is right, and most ids that fit are of nothing",
}


async def document(http: httpx2.AsyncClient, run: RunInfo, service: str) -> dict[str, Any]:
    """A service's OpenAPI document, for which no token is needed."""
    answer = await http.get(f"{run.http[service]}/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_every_operation_says_what_it_answers(run: RunInfo, service: str) -> None:
    """Who must show the token, the form of each answer, problems in their own media type; all that is referred to is
    there."""
    async with httpx2.AsyncClient() as http:
        found = await document(http, run, service)
    assert found["openapi"].startswith("3.1.")
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            is_open = (method, path) in (("get", "/health"), ("get", "/metrics"), ("post", "/events"))
            is_open |= path.startswith("/contract")
            assert ("security" in operation) != is_open, path
            assert operation["summary"], path
            for status, answer in operation["responses"].items():
                if status not in ("204", "304"):
                    assert answer["content"], (path, status)
                if int(status) >= 400 and path != "/health":
                    assert set(answer["content"]) == {"application/problem+json"}, (path, status)
    for reference in references(found):
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in found["components"]["schemas"], reference


def references(node: object) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return here.union(*map(references, node.values()))


@pytest.mark.parametrize("inbox", topics.INBOXES, ids=lambda topic: topic.name)
async def test_the_document_has_each_event_that_an_inbox_takes(run: RunInfo, inbox: topics.Topic) -> None:
    async with httpx2.AsyncClient() as http:
        found = await document(http, run, OWNERS[inbox.name])
    taken = {kind for kind in EVENTS.values() if kind.inbox == inbox}
    structured = found["components"]["schemas"]["StructuredEvent"]
    assert set(structured["properties"]["type"]["enum"]) == {kind.type for kind in taken}
    content = found["paths"]["/events"]["post"]["requestBody"]["content"]
    named = {each["$ref"].rpartition("/")[2] for each in content["application/json"]["schema"]["anyOf"]}
    assert named == {kind.name for kind in taken}


async def test_schemathesis_finds_no_fault(stranger: Stranger, tmp_path: Path) -> None:
    """Strange input to every operation: each answer is one that the document tells of, and no fault of the service.
    Nothing of it is written to Kafka."""
    examples = await there(stranger)
    before = [await stranger.ends(topic) for topic in topics.INBOXES]
    found = await asyncio.gather(*(attacked(stranger.run, service, examples, tmp_path) for service in SERVICES))
    for told, faultless in found:
        assert faultless, told[-8_000:]
    for ends in before:
        assert await stranger.written_since(ends) == []


async def there(stranger: Stranger) -> dict[str, dict[str, Any]]:
    """By service, values of path parameters under which something is there."""
    request_id = await stranger.raised()
    await stranger.offered(request_id, "AZ-1")
    for state in ("AZ", "KG", "KZ", "UZ"):
        await stranger.voted(request_id, state)
    await stranger.stated("MobilizationAuthorized", request_id)
    ballot_id = (await stranger.stated("ConsensusReached", request_id)).data["ballot_id"]
    of_request = {"request_id": request_id, "pledge_id": "AZ-1", "ballot_id": ballot_id}
    of_request["subscription_id"] = "sub_" + 24 * "0"  # of none: what they send would go out of the test
    of_request |= {"name": "app.js", "turn_id": "00000000-0000-0000-0000-000000000000"}
    key_id = stranger.state_key("KZ").key_id
    return {
        service: {**of_request, "state": "KZ", "key_id": key_id, "topic": inbox, "partition": 0, "offset": 0}
        for inbox, service in (*OWNERS.items(), ("", "notify"))
    }


async def attacked(run: RunInfo, service: str, examples: dict[str, Any], folder: Path) -> tuple[str, bool]:
    """What schemathesis says of a service, and whether it found no fault."""
    async with httpx2.AsyncClient() as http:
        found = await document(http, run, service)
    for operation in (operation for methods in found["paths"].values() for operation in methods.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                parameter["schema"].pop("examples", None)
                parameter["example"] = examples[service][parameter["name"]]
    home = folder / service
    home.mkdir()
    (home / "openapi.json").write_text(json.dumps(found))
    thorough = EXAMPLES > FEW
    (home / "schemathesis.toml").write_text("" if thorough else WITHOUT_EVENTS)
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", "openapi.json", "--url", run.http[service]),
        *("--header", f"Authorization: Bearer {run.token}", "--max-examples", str(EXAMPLES)),
        *("--phases", "examples,coverage,fuzzing,stateful" if thorough else "examples,coverage,fuzzing"),
        *("--exclude-checks", ",".join(LEFT_OUT)),
        # A stream has no end that anybody could wait for: its own tests read it.
        *(("--exclude-path-regex", "^/stream$|/live$") if service == "notify" else ()),
        *("--generation-database", "none", "--no-color"),
    ]
    running = await asyncio.create_subprocess_exec(
        *command, cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await running.communicate()
    return told.decode(), running.returncode == 0
