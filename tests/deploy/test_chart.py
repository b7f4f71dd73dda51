"""The Helm chart: made from the code where it can be, and valid by Kubernetes' own schemas."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import chart
from deploy.local import acls
from deploy.local.roles import SERVICES
from qalqan.topics import ALL, PUBLIC
from services.notify.settings import StandingSettings
from tests.deploy.tools import run, tool

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "qalqan"
KUBERNETES = "1.37"
EVERYTHING = (
    "--set=monitoring.serviceMonitor=true,monitoring.rules=true,monitoring.dashboards=true",
    "--set=otlpEndpoint=http://collector:4318,secrets.smtp=qalqan-smtp,image.registry=registry,networkPolicy.database=null",
)
ANOTHER_KAFKA = ("--set=kafka.strimzi=false,kafka.caSecret=ca", "--set-string=kafka.bootstrapServers=k1:9093\\,k2:9094")


def test_what_is_committed_is_what_the_code_says() -> None:
    """`python -m deploy.chart` would change nothing."""
    written = {
        str(path.relative_to(chart.FILES)): path.read_text() for path in chart.FILES.rglob("*") if path.is_file()
    }
    assert written == chart.files()


def test_every_topic_and_every_rule_is_there() -> None:
    """Strimzi's users may do what `deploy/local/acls.py` allows, no more and no less."""
    topics = {resource["metadata"]["name"]: resource["spec"] for resource in chart.topics()}
    assert {name: spec["partitions"] for name, spec in topics.items()} == {
        topic.name: topic.partitions for topic in ALL
    }
    operations = {chart.named(operation): operation for operation in acls.Operation}
    found = set()
    for user in chart.users():
        name = next(user_ for user_ in acls.USERS if user_.lower() == user["metadata"]["name"])
        assert ("quotas" in user["spec"]) == (name in acls.PUBLIC_USERS)
        for rule in user["spec"]["authorization"]["acls"]:
            resource = rule["resource"]
            pattern = {"literal": acls.Pattern.LITERAL, "prefix": acls.Pattern.PREFIXED}[resource["patternType"]]
            for operation in rule["operations"]:
                kind = acls.Resource[resource["type"].upper()]
                found.add(acls.allowed(name, operations[operation], kind, resource["name"], pattern))
    assert found == acls.rules()
    assert len(found) > len(acls.USERS) * len(PUBLIC)


def rendered(*arguments: str) -> list[dict[str, Any]]:
    """What the chart makes."""
    command = (tool("helm"), "template", "test", str(CHART), "--kube-version", f"{KUBERNETES}.0", *arguments)
    return [document for document in yaml.safe_load_all(run(*command)) if document]


@pytest.mark.parametrize("arguments", [(), EVERYTHING, ANOTHER_KAFKA], ids=["plain", "everything", "another Kafka"])
def test_kubernetes_would_take_it(arguments: tuple[str, ...]) -> None:
    """Each resource of its own, by the strict schema of its version."""
    schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    own = [it for it in rendered(*arguments) if not it["apiVersion"].startswith(("kafka.strimzi", "monitoring.coreos"))]
    for document in own:
        schemas.validate(document, KUBERNETES, strict=True)
    assert len(own) >= 4 * len(SERVICES)


def test_helm_lints_it() -> None:
    """Warnings count."""
    run(tool("helm"), "lint", str(CHART), "--strict", "--kube-version", f"{KUBERNETES}.0")


def test_notify_is_told_of_every_replica() -> None:
    """For `GET /streams`: each by its own name, which a headless service gives."""
    [notify] = [it for it in rendered() if it["kind"] == "StatefulSet" and it["metadata"]["name"] == "notify"]
    environment = {
        each["name"]: each.get("value", "") for each in notify["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    asked = StandingSettings.model_validate({"QALQAN_SERVICES": environment["QALQAN_SERVICES"]}).services
    assert sorted(asked) == sorted(
        (service, f"http://{service}-{number}.{service}-replicas:8080") for service in SERVICES for number in (0, 1)
    )


def test_each_service_stands_twice_and_with_nothing_it_does_not_need() -> None:
    """Two replicas with names of their own, no root, nothing writable, a budget, a policy, secrets by name."""
    documents = rendered()
    by_kind = {(it["kind"], it["metadata"]["name"]): it for it in documents}
    for service in SERVICES:
        spec = by_kind["StatefulSet", service]["spec"]
        pod = spec["template"]["spec"]
        [container] = pod["containers"]
        assert spec["replicas"] == 2
        assert container["command"] == ["python", "-m", f"services.{service}.main"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for it in (*pod["initContainers"], container):
            assert it["securityContext"]["readOnlyRootFilesystem"]
            assert it["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert it["resources"]["limits"]["memory"]
        assert all(mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] != "tmp")
        environment = {it["name"]: it for it in container["env"]}
        assert len(set(environment)) == len(container["env"])
        assert environment["QALQAN_REPLICA"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        assert environment["KAFKA_SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == f"kafka-{service}"
        assert by_kind["PodDisruptionBudget", service]["spec"]["minAvailable"] == 1
        assert by_kind["NetworkPolicy", service]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not [it for it in documents if it["kind"] == "Secret"]
    assert {it["metadata"]["name"] for it in documents if it["kind"] == "KafkaTopic"} == {topic.name for topic in ALL}
