"""Alert rules and dashboards speak of what the running services tell; every alert has its section in the runbook."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, VectorSelector

from deploy.local.roles import SERVICES
from qalqan.runinfo import RunInfo
from tests.deploy.tools import run as run_tool
from tests.deploy.tools import tool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
RUNBOOK = ROOT / "docs" / "runbook.md"
TARGET = {"job", "instance", "service"}
"""What Prometheus itself puts on every sample, by deploy/prometheus/prometheus.yaml and the chart's ServiceMonitor."""
OF_PROMETHEUS = {"up": TARGET, "ALERTS": {*TARGET, "alertname", "alertstate", "severity"}}
GRAFANAS = {"$__rate_interval": "5m", "$service": "request"}
"""What Grafana puts in before Prometheus reads an expression."""

Told = Mapping[str, set[str]]


@pytest.fixture
def told(run: RunInfo) -> Told:
    """The labels of every sample's name that any service tells now, as Prometheus scrapes it."""
    found = {name: set(labels) for name, labels in OF_PROMETHEUS.items()}
    for service in SERVICES:
        answer = httpx2.get(f"{run.http[service]}/metrics").raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            names = {sample.name for sample in family.samples} or {family.name}
            for name in names:
                found.setdefault(name, set()).update(TARGET)
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    return [
        rule for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]


def unknown(expression: str, told: Told) -> Iterator[str]:
    """Names and labels of an expression that nobody tells."""
    found: list[str] = []

    def visit(node: object) -> bool:
        if isinstance(node, VectorSelector):
            matchers = {matcher.name for matcher in node.matchers.matchers}
            known = told.get(node.name or "")
            found.extend([f"no {node.name}"] if known is None else [f"{node.name}: {it}" for it in matchers - known])
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            within = labels_of(node.expr, told)
            found.extend(f"by {label}" for label in set(node.modifier.labels) - within)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


def labels_of(node: object, told: Told) -> set[str]:
    """The labels that the samples below an expression may have."""
    found: set[str] = set()

    def visit(below: object) -> bool:
        if isinstance(below, VectorSelector):
            found.update(told.get(below.name or "", ()))
        return True

    promql_parser.walk(node, visit)
    return found


def test_the_check_itself_finds_what_is_wrong(told: Told) -> None:
    """A misspelt name, label and grouping."""
    wrong = (
        'sum by (servise) (rate(qalqan_lag_recordz{topick="x"}[5m])) + sum by (reason) (qalqan_lag_records{topick="x"})'
    )
    assert sorted(unknown(wrong, told)) == [
        "by reason",
        "by servise",
        "no qalqan_lag_recordz",
        "qalqan_lag_records: topick",
    ]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_speaks_of_what_there_is(rule: dict[str, Any], told: Told) -> None:
    """Its metrics and labels exist; it says what it means, how bad that is, and where to read on."""
    assert list(unknown(rule["expr"], told)) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    assert notes["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    has = labels_of(promql_parser.parse(rule["expr"]), told)
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(notes.values()))) <= has


def test_every_alert_has_a_section_in_the_runbook_and_the_other_way_round() -> None:
    """Whoever is woken finds what to do, and the runbook speaks of no alert that is none."""
    sections = re.findall(r"^### (Qalqan\w+)$", RUNBOOK.read_text(), re.M)
    assert sections == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_shows_what_there_is(path: Path, told: Told) -> None:
    """Each panel's expressions parse, and name metrics and labels that exist; panels do not overlap."""
    board = json.loads(path.read_text())
    assert board["uid"] == f"qalqan-{path.stem}"
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in GRAFANAS.items():
                expression = expression.replace(variable, value)
            assert list(unknown(expression, told)) == [], panel["title"]
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= {
                *labels_of(promql_parser.parse(expression), told)
            }
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            assert label in told[metric]


def test_what_a_service_tells_of_its_own_is_shown_or_watched_somewhere(told: Told) -> None:
    """A measure that nobody looks at is not worth taking."""
    shown = "".join(path.read_text() for path in DASHBOARDS) + (PROMETHEUS / "alerts.yaml").read_text()
    own = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told if name.startswith("qalqan_")}
    assert own
    assert [name for name in sorted(own) if name not in shown] == []


def test_the_rules_fire_when_they_should() -> None:
    """`promtool check` and `promtool test`: an alert fires, and not before."""
    promtool = tool("promtool")
    run_tool(promtool, "check", "rules", "alerts.yaml", cwd=PROMETHEUS)
    run_tool(promtool, "test", "rules", "alerts_test.yaml", cwd=PROMETHEUS)


def test_every_service_is_scraped() -> None:
    """By the name that it has in compose.yaml, with the label that everything goes by."""
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in scrape] == ["qalqan"]
    found = {config["labels"]["service"]: config["targets"] for config in scrape[0]["static_configs"]}
    assert found == {service: [f"{service}:8080"] for service in SERVICES}
