"""What the Helm chart takes from the rest: `python -m deploy.chart` writes it under `deploy/helm/qalqan/files`.

Strimzi's resources of the topics come from `qalqan/topics.py`, those of the users from `deploy/local/acls.py`: a topic
or a rule is declared once. Alert rules and dashboards are copied, since a chart cannot read beyond its own folder. What
is committed is checked against this by a test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.local import acls
from deploy.local.acls import Acl, Operation, Pattern, Resource
from qalqan.topics import ALL

HERE: Final = Path(__file__).parent
FILES: Final = HERE / "helm" / "qalqan" / "files"
CLUSTER: Final = "qalqan"
"""The name of the Kafka resource that all others belong to."""

_API = "kafka.strimzi.io/v1"
_REPLICAS, _IN_SYNC = 3, "2"


def topics() -> Iterator[dict[str, Any]]:
    """A KafkaTopic for each topic of the contract."""
    for topic in ALL:
        config = {**topic.config(), "min.insync.replicas": _IN_SYNC}
        spec = {"partitions": topic.partitions, "replicas": _REPLICAS, "config": config}
        yield _resource("KafkaTopic", topic.name, spec)


def users() -> Iterator[dict[str, Any]]:
    """A KafkaUser for each service, each state and the reader, with what it may do and how much of it.

    Kubernetes has small letters only: the user of the state KZ is `kz`; its consumer groups begin with `KZ.`.
    """
    rules = acls.rules()
    for user in acls.USERS:
        own = sorted((rule for rule in rules if rule.principal == f"User:{user}"), key=_order)
        spec: dict[str, Any] = {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": list(_merged(own))},
        }
        if user in acls.PUBLIC_USERS:
            spec["quotas"] = {
                "producerByteRate": int(acls.QUOTAS["producer_byte_rate"]),
                "consumerByteRate": int(acls.QUOTAS["consumer_byte_rate"]),
            }
        yield _resource("KafkaUser", user.lower(), spec)


def named(operation: Operation) -> str:
    """An operation as Strimzi has it: `DescribeConfigs`."""
    return operation.name.title().replace("_", "")


def files() -> dict[str, str]:
    """Every file under `files`, by its path there."""
    made = "# Made by `python -m deploy.chart` from the code; change that, not this.\n"
    found = {
        "topics.yaml": made + yaml.safe_dump_all(topics(), sort_keys=False),
        "users.yaml": made + yaml.safe_dump_all(users(), sort_keys=False),
        "alerts.yaml": (HERE / "prometheus" / "alerts.yaml").read_text(),
    }
    for dashboard in sorted((HERE / "grafana").glob("*.json")):
        found[f"dashboards/{dashboard.name}"] = dashboard.read_text()
    return found


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}


def _order(rule: Acl) -> tuple[int, str, int]:
    return rule.resource, rule.name, rule.operation


def _merged(rules: list[Acl]) -> Iterator[dict[str, Any]]:
    """One entry for each resource, with all that may be done to it."""
    operations: dict[tuple[int, str, int], list[str]] = {}
    for rule in rules:
        operations.setdefault((rule.resource, rule.name, rule.pattern), []).append(named(Operation(rule.operation)))
    for (resource, name, pattern), what in operations.items():
        yield {
            "resource": {
                "type": Resource(resource).name.lower(),
                "name": name,
                "patternType": "prefix" if pattern == Pattern.PREFIXED else "literal",
            },
            "operations": what,
        }


def main() -> None:
    """Writes the files."""
    for path, text in files().items():
        target = FILES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
