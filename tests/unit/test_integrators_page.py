"""docs/integrators/README.md: its tables are those of the code."""

import re
from pathlib import Path
from typing import get_args

from qalqan import topics
from qalqan.events import EVENTS, Reason
from qalqan.sources import Source
from qalqan.trust import WRITERS

PAGE = (Path(__file__).parents[2] / "docs" / "integrators" / "README.md").read_text("utf-8")
OWNERS = {"inbox." + topic: service for topic, service in WRITERS.items()} | {
    topics.INBOX_GOVERNANCE.name: "secretariat"
}


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\|(.+)\|$", section, re.MULTILINE)
    return [[cell.strip().replace("`", "") for cell in row.split("|")] for row in table[2:]]


def test_reasons_are_those_of_the_contract_in_its_order() -> None:
    assert [reason for reason, _, _ in rows("Reasons, and what to do")] == list(get_args(Reason))
    assert all(what and do for _, what, do in rows("Reasons, and what to do"))


def test_submissions_are_those_of_the_event_table() -> None:
    told = {
        name: (inbox, service, topic, by) for name, by, inbox, service, topic in rows("What is submitted, and where")
    }
    submitted = {kind.name: kind for kind in EVENTS.values() if kind.inbox is not None}
    assert list(told) == list(submitted)
    for name, (inbox, service, topic, by) in told.items():
        kind = submitted[name]
        assert kind.inbox is not None
        assert kind.topic is not None
        assert (inbox, topic) == (kind.inbox.name, kind.topic.name)
        assert service == OWNERS[inbox]
        assert by.partition(", ")[2] == (kind.scope or "")


def test_statements_are_those_of_the_event_table() -> None:
    stated = [(kind.name, kind.topic.name) for kind in EVENTS.values() if kind.inbox is None and kind.topic]
    assert [(name, topic) for name, topic, _ in rows("What services state")] == stated


def test_sources_on_the_pages_have_the_contracts_form() -> None:
    for page in Path(__file__).parents[2].glob("docs/integrators/*.md"):
        for source in re.findall(r"qalqan://[a-z0-9-]+/[a-z]+(?:/[A-Za-z]+)?", page.read_text("utf-8")):
            assert Source.parse(source), (page.name, source)
