"""What a replay comes to: the plan, the coverage, the system's own latencies, the assumptions, the checks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from qalqan.replay.checks import Check
from qalqan.replay.player import Play, Seen
from qalqan.replay.scenario import Scenario
from qalqan.words import when


@dataclass(frozen=True, slots=True)
class Report:
    """A finished replay. `timeline` as in `Timeline.entries`."""

    play: Play
    checks: list[Check]
    timeline: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    @property
    def latency_ms(self) -> dict[str, float]:
        """The system's own latencies in ms, each from sending to reading, as far as they occurred."""
        return {name: round(seconds * 1000, 1) for name, seconds in _latencies(self.play)}

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints (CONTRACT "The runner"), with coverage and assumptions beside it."""
        return {
            "ok": self.ok,
            "request_id": self.play.request_id,
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks],
            "latency_ms": self.latency_ms,
            "timeline": self.timeline,
            "coverage": [] if (plan := last_plan(self.play)) is None else plan["coverage"],
            "assumptions": [
                {"why": assumption.why, "figures": list(assumption.figures)}
                for assumption in self.play.scenario.used_assumptions()
            ],
        }

    def show(self, console: Console) -> None:
        """Prints it for a person."""
        plan = last_plan(self.play)
        console.print()
        console.print(_what_was_offered(self.play, plan))
        if plan is not None:
            console.print(_coverage(self.play.scenario, plan))
        console.print(_table_of_latencies(self.latency_ms))
        console.print(_assumptions(self.play.scenario))
        if self.play.scenario.conflicts:
            console.print(_conflicts(self.play.scenario))
        for text in self.play.scenario.not_played:
            console.print(f"[dim]Not played:[/] {text}")
        console.print(_checks(self.checks))


def last_plan(play: Play) -> dict[str, Any] | None:
    """The last plan before the request was closed or cancelled (which stands down what has not departed)."""
    plans: list[Seen] = []
    for seen in play.seen:
        if seen.message.name in ("RequestClosed", "RequestCancelled") and plans:
            break
        if seen.message.name in ("MobilizationAuthorized", "MobilizationRevised"):
            plans.append(seen)
    return plans[-1].message.data if plans else None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def _latencies(play: Play) -> Iterator[tuple[str, float]]:
    raised = next((one for one in play.sent if one.planned.event == "RequestRaised"), None)
    opened = next(iter(play.of("BallotOpened")), None)
    if raised is not None and opened is not None:
        yield "raise_to_ballot_opened", opened.seen_s - raised.sent_s
    authorized = next(iter(play.of("MobilizationAuthorized")), None)
    if authorized is not None:
        votes = [
            one.sent_s
            for one in play.sent
            if one.planned.event == "VoteCast" and one.sent_s < authorized.seen_s
        ]  # fmt: skip
        if votes:
            yield "last_vote_to_authorized", authorized.seen_s - max(votes)
    settled = [one.settled_s - one.sent_s for one in play.sent if one.settled_s is not None]
    if settled:
        yield "submission_to_public_p50", quantile(settled, 0.50)
        yield "submission_to_public_p99", quantile(settled, 0.99)
    replanned = list(_acceptances_to_plans(play))
    if replanned:
        yield "acceptance_to_plan_p50", quantile(replanned, 0.50)
        yield "acceptance_to_plan_p99", quantile(replanned, 0.99)


def _acceptances_to_plans(play: Play) -> Iterator[float]:
    """From each acceptance after the authorisation to the first plan that has the pledge."""
    authorized = next(iter(play.of("MobilizationAuthorized")), None)
    for one in play.sent:
        if authorized is None or one.planned.event != "PledgeAccepted" or one.sent_s < authorized.seen_s:
            continue
        pledge_id = one.planned.data["pledge_id"]
        for seen in play.of("MobilizationRevised"):
            if seen.seen_s > one.sent_s and any(line["pledge_id"] == pledge_id for line in seen.message.data["lines"]):
                yield seen.seen_s - one.sent_s
                break


def _what_was_offered(play: Play, plan: dict[str, Any] | None) -> Table:
    """A row for each offer: who, what, when it leaves and when it would arrive."""
    table = Table(title=f"{play.scenario.title}: who, what, when (UTC)", title_justify="left")
    for heading in ("State", "Pledge", "What", "Need", "Leaves", "Arrives", "Status"):
        table.add_column(heading)
    lines = {line["pledge_id"]: line for line in (plan or {"lines": []})["lines"]}
    accepted = {one.planned.data["pledge_id"] for one in play.sent if one.planned.event == "PledgeAccepted"}
    for one in play.sent:
        if one.planned.event != "PledgeOffered":
            continue
        data, assumed = one.planned.data, one.planned.assumed
        line = lines.get(data["pledge_id"])
        arrives = line["arrives_at"] if line else data.get("arrives_at")
        note = " (estimated)" if line and line["estimated"] else _mark("arrives_at", assumed)
        if data["pledge_id"] not in accepted:
            status = "no answer"
        else:
            status = f"planned: {line['quantity']:,}" if line else "accepted, outside the plan"
        table.add_row(
            data["pledging_state"],
            data["pledge_id"],
            f"{data['quantity']:,} {data['unit']}, {data.get('text') or data['capability']}"
            + _mark("quantity", assumed),
            ", ".join(data["answers"]) or "unsolicited",
            when(data["ready_at"]) + _mark("ready_at", assumed),
            when(arrives) + (note if arrives else ""),
            status,
        )
    table.caption = "* assumed by the scenario; (estimated): by the system, from place and mode"
    return table


def _mark(figure: str, assumed: Sequence[str]) -> str:
    return " *" if figure in assumed else ""


def _coverage(scenario: Scenario, plan: dict[str, Any]) -> Table:
    table = Table(title=f"Coverage of each need (plan of revision {plan['revision']})", title_justify="left")
    for heading in ("Need", "What", "Asked for", "Covered", "On time", "Bilateral"):
        table.add_column(heading, justify="left" if heading in ("Need", "What") else "right")
    needs = {need.need_id: need for need in scenario.raised.needs}
    for row in plan["coverage"]:
        need = needs[row["need_id"]]
        share = f" ({row['covered'] * 100 // row['requested']} %)"
        table.add_row(
            need.need_id,
            f"{need.text or need.capability}, {need.unit}",
            f"{row['requested']:,}" + _mark("quantity", list(need.assumed())),
            f"{row['covered']:,}{share}",
            f"{row['on_time']:,}" if need.needed_by else "-",
            f"{row['bilateral']:,}",
        )
    return table


def _table_of_latencies(latencies: dict[str, float]) -> Table:
    table = Table("Latency", title="The system's own latencies, real time, sent to read", title_justify="left")
    table.add_column("ms, sent to read", justify="right")
    for name, milliseconds in latencies.items():
        table.add_row(name.replace("_", " "), f"{milliseconds:,.1f}")
    return table


def _assumptions(scenario: Scenario) -> Table:
    table = Table("Assumption", "Figures that rest on it", title="What this scenario assumes", title_justify="left")
    for assumption in scenario.used_assumptions():
        more = len(assumption.figures) - 4
        table.add_row(assumption.why, "; ".join(assumption.figures[:4]) + (f"; and {more} more" if more > 0 else ""))
    return table


def _conflicts(scenario: Scenario) -> Table:
    table = Table("Figure", "Published", "Played", title="Figures that sources give differently", title_justify="left")
    for conflict in scenario.conflicts:
        values = []
        for value in conflict.values:
            keys = [value.source] if isinstance(value.source, str) else value.source
            values.append(f"{value.value} ({'; '.join(scenario.sources[key].name for key in keys)})")
        table.add_row(conflict.figure, "\n".join(values), conflict.taken)
    return table


def _checks(checks: Sequence[Check]) -> Table:
    table = Table(
        "", "Check", "Found", title="Checked from the public topics, by root.json alone", title_justify="left"
    )
    for check in checks:
        table.add_row("[green]holds[/]" if check.ok else "[bold red]FAILS[/]", check.name, check.detail)
    return table
