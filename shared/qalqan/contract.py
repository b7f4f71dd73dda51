"""The contract as files: a JSON Schema for each event, and AsyncAPI for the topics, both made from the event table.

`qalqan contract export DIR` writes them; the copies in `docs/contract/` are what it writes, and a test says so. Other
distributions add documents by entry points of the group `qalqan.contract`, functions that give documents by path: so
the system adds OpenAPI of its services, of which this package knows nothing.
Sources: JSON Schema 2020-12, AsyncAPI 3.0, its Kafka bindings 0.5.0, CloudEvents 1.0.2 (Kafka binding).
"""

import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from qalqan import topics
from qalqan.events import EVENTS, EventType
from qalqan.signing import PAYLOAD_TYPE
from qalqan.topics import Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLUGINS = "qalqan.contract"
_BINDING = "0.5.0"

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The contract, for integrators.")


@app.callback()
def _about() -> None:
    """The contract, for integrators."""


@app.command()
def export(folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")]) -> None:
    """Write AsyncAPI, a JSON Schema for each event, and OpenAPI of each service: all that clients are made from."""
    found = documents() | added()
    for name, document in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    typer.echo(f"{len(found)} documents are in {folder}.")
    if not any(name.startswith("openapi/") for name in found):
        typer.echo("Not OpenAPI: the services are not installed here. Each shows its own at /openapi.json.", err=True)


def added() -> dict[str, Json]:
    """What other distributions add, by path."""
    return {name: document for point in entry_points(group=PLUGINS) for name, document in point.load()().items()}


def documents() -> dict[str, Json]:
    """Every file of this package's part of the contract by its path."""
    schemas = {f"schemas/{kind.name}.json": schema_of(kind) for kind in EVENTS.values()}
    return {"asyncapi.json": asyncapi(), **schemas}


def schema_of(kind: EventType) -> Json:
    """The JSON Schema of an event's data: it stands alone."""
    return {"$schema": DIALECT, "$id": f"urn:qalqan:schema:{kind.type}", **kind.model.model_json_schema(by_alias=True)}


def asyncapi() -> Json:
    """The AsyncAPI document: what is taken on each inbox, what stands on each public topic, every payload typed."""
    schemas: Json = {"Submission": _headers({}), "Public": _headers(_ON_PUBLIC_TOPICS)}
    messages: Json = {}
    for kind in EVENTS.values():
        data = kind.model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        schemas |= data.pop("$defs", {})
        schemas[kind.name] = data
        for topic in filter(None, (kind.inbox, kind.topic)):
            messages[_name_on(kind, topic)] = _message(kind, "Submission" if topic.kind == "inbox" else "Public")
    used = [topic for topic in topics.ALL if _on(topic)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Qalqan",
            "version": "1",
            "description": "Signed CloudEvents on Kafka. States write to `inbox.*` and read all other topics.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in used},
        "operations": {
            f"{'take' if topic.kind == 'inbox' else 'publish'}.{topic.name}": _operation(topic) for topic in used
        },
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def _on(topic: Topic) -> list[EventType]:
    """The events that are submitted to an inbox, or stand on a public topic."""
    return [kind for kind in EVENTS.values() if topic in (kind.inbox, kind.topic)]


def _name_on(kind: EventType, topic: Topic) -> str:
    return f"Submitted{kind.name}" if topic.kind == "inbox" else kind.name


def _channel(topic: Topic) -> Json:
    return {
        "address": topic.name,
        "messages": {kind.name: {"$ref": f"#/components/messages/{_name_on(kind, topic)}"} for kind in _on(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": int(topic.config()["retention.ms"]),
                    "max.message.bytes": topic.max_message_bytes,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _operation(topic: Topic) -> Json:
    taken = topic.kind == "inbox"
    return {
        "action": "receive" if taken else "send",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"What states submit to {topic.name}" if taken else f"What stands on {topic.name}",
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{kind.name}"} for kind in _on(topic)],
    }


def _message(kind: EventType, headers: str) -> Json:
    return {
        "name": kind.type,
        "title": kind.name,
        "summary": inspect.getdoc(kind.model),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": f"#/components/schemas/{headers}"},
                {"type": "object", "properties": {"ce_type": {"const": kind.type}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{kind.name}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The event's subject, in UTF-8."},
                "bindingVersion": _BINDING,
            }
        },
    }


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


_EVERYWHERE = {
    "content-type": {"const": "application/json"},
    "ce_specversion": {"const": "1.0"},
    "ce_id": _text("Unique for its source.", pattern="^[ -~]{1,128}$"),
    "ce_source": _text("Who says it.", pattern="^qalqan://[A-Za-z0-9._-]{1,64}/"),
    "ce_type": _text("The event's type."),
    "ce_subject": _text("What it is about: its request, a state or a key.", minLength=1),
    "ce_time": _text("RFC 3339; advisory, the log's time rules.", format="date-time"),
    "ce_dssematerial": _text(f"DSSE envelope over the core digest, base64; payload type {PAYLOAD_TYPE}."),
    "ce_partitionkey": _text("The subject."),
}
_NEEDED = ("content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_dssematerial")
_ON_PUBLIC_TOPICS = {
    "ce_mode": _text("Of the request; only on its topics.", enum=["actual", "exercise", "test"]),
    "ce_position": _text("Of the event within its key and topic, without a gap.", pattern="^[0-9]{10}$"),
    "ce_recordedtime": _text("When the broker took the submission.", format="date-time"),
    "ce_membersoffset": _text("Next offset of `members` when it was judged.", pattern="^[0-9]+$"),
    "ce_step": _text("The transaction of its lane.", pattern="^[0-9]+$"),
    "ce_ordinal": _text("Its place in that; absent: 0.", pattern="^[0-9]+$"),
    "ce_followed": _text("How far its lane had read other topics."),
    "ce_causationid": _text("The id of the event behind it."),
    "ce_correlationid": _text("As submitted."),
    "ce_traceparent": _text("As submitted (W3C Trace Context)."),
}


def _headers(more: Json) -> Json:
    return {"type": "object", "required": list(_NEEDED), "properties": {**_EVERYWHERE, **more}}
