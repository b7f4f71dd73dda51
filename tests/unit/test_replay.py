"""The checks of a replay, its report and the reading behind them, on events made and signed by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from deploy.local.keys import Identity, identity
from qalqan import jsontext, topics, trust
from qalqan.client import Ballot, Message, Submission, ballot_of
from qalqan.envelope import Event, to_structured
from qalqan.events import EVENTS, type_of
from qalqan.instants import format_instant, to_millis
from qalqan.registry import Registry, Root
from qalqan.replay.checks import Check, Evidence, check, submissions_settled
from qalqan.replay.command import finish, replay
from qalqan.replay.player import Play, Seen, Sent
from qalqan.replay.report import Report, last_plan, quantile
from qalqan.replay.scenario import Scenario, load
from qalqan.replay.timeline import Timeline
from qalqan.runinfo import NotRunning, RunInfo
from qalqan.signing import Ed25519Key, sign
from qalqan.sources import service_source, state_source
from qalqan.words import what

EARTHQUAKE = Path(__file__).parents[1] / "scenarios" / "tr-earthquake-2023-02-06.yaml"
REQUEST = "TR-2023-0001"
ROLL = ["AZ", "KG", "KZ", "TR", "UZ"]
PARTITION = topics.partition_of(REQUEST)


@dataclass
class Network:
    """A network's keys, and the hand that writes its topics."""

    identity: Identity
    root: Root
    registry: Registry
    now: datetime

    def __post_init__(self) -> None:
        self.messages: list[Message] = []
        self.step = 0

    def say(self, source: str, key: Path, name: str, data: dict[str, Any], topic: str) -> Message:
        """Signs an event and puts it on a public topic, in a step of its own, as its writer would."""
        self.step += 1
        self.now += timedelta(milliseconds=10)
        position = 1 + sum(1 for message in self.messages if message.topic == topic)
        event = Event(
            id=f"{name}-{self.step}",
            source=source,
            type=type_of(name),
            subject=REQUEST,
            time=format_instant(self.now),
            datacontenttype="application/json",
            data=jsontext.canonical(data),
            extensions={
                "partitionkey": REQUEST,
                "position": f"{position:010}",
                "step": str(self.step),
                "recordedtime": format_instant(self.now),
                "mode": "exercise",
            },
        )
        signed = sign(event, Ed25519Key.from_pem(key.read_bytes()))
        message = Message(topic, PARTITION, position - 1, to_millis(self.now), signed, data)
        self.messages.append(message)
        return message

    def state(self, code: str, name: str, /, **data: Any) -> Message:
        """A state's submission, admitted."""
        public = EVENTS[type_of(name)].topic
        assert public is not None
        source, key = state_source(self.root.network, code), self.identity.keys / f"{code}.pem"
        return self.say(source, key, name, {"request_id": REQUEST} | data, public.name)

    def service(self, service: str, name: str, topic: str, /, **data: Any) -> Message:
        """What a service says."""
        source, key = service_source(self.root.network, service), self.identity.service_key(service)
        return self.say(source, key, name, {"request_id": REQUEST} | data, topic)

    def evidence(self, messages: list[Message] | None = None) -> Evidence:
        """What a reader makes of these messages."""
        found = self.messages if messages is None else messages
        closings = [message for message in found if message.name == "ConsensusReached"]
        evidence = Evidence(self.root, REQUEST, found, closings)
        for message in found:
            appended_at = datetime.fromtimestamp(message.timestamp_ms / 1000, UTC)
            if why := trust.doubt(message.event, message.topic, appended_at, self.registry):
                evidence.doubts[message.topic, message.partition, message.offset] = why
        return evidence


@pytest.fixture
def network(tmp_path: Path) -> Network:
    made = identity(tmp_path)
    root = Root.load(made.root)
    registry = Registry(root)
    for event in made.genesis():
        registry.apply(event)
    return Network(made, root, registry, datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1))


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load(EARTHQUAKE)


def decide(network: Network, scenario: Scenario) -> Ballot:
    """The request, its ballot, four votes, consensus with its certificate."""
    plan = scenario.plan(REQUEST)
    raised = network.state("TR", "RequestRaised", **plan[0].data)
    opened_at = network.now + timedelta(milliseconds=5)
    record = {
        "network": network.root.network, "mode": "exercise", "request_id": REQUEST, "revision": 1,
        "request_digest": jsontext.digest(raised.event.data), "round": 1,
        "items": [need["need_id"] for need in plan[0].data["needs"]],
        "rule": {"rule_id": "consensus-1", "kind": "consensus", "window": "PT24H", "window_at_risk": "PT6H"},
        "roll": ROLL, "affected_state": "TR",
        "members_offset": len(network.identity.genesis()), "governance_offset": 0,
        "opened_at": format_instant(opened_at), "deadline": format_instant(opened_at + timedelta(hours=6)),
    }  # fmt: skip
    ballot_id = jsontext.digest_of(record)
    opened = network.service("consensus", "BallotOpened", "decisions", ballot_id=ballot_id, ballot=record)
    votes = {
        state: network.state(
            state, "VoteCast", ballot_id=ballot_id, round=1, state=state, sequence=1, position="approve"
        )
        for state in ("AZ", "KG", "KZ", "UZ")
    }
    recorded = raised.event.extensions["recordedtime"]
    counted: list[dict[str, Any]] = [
        {
            "state": state, "position": "approve", "by": "vote", "event": to_structured(vote.event),
            "recorded_at": vote.event.extensions["recordedtime"],
        }
        for state, vote in votes.items()
    ]  # fmt: skip
    counted.append({"state": "TR", "position": "approve", "by": "request", "recorded_at": recorded})
    counted.sort(key=lambda entry: str(entry["state"]))
    decided_at = votes["UZ"].event.extensions["recordedtime"]
    genesis = network.identity.genesis()
    certificate = {
        "version": 1, "ballot": record, "outcome": "reached", "decided_at": decided_at,
        "request": to_structured(raised.event), "request_recorded_at": recorded, "cause": None,
        "counted": counted,
        "inbox": {"topic": "inbox.votes", "partition": PARTITION, "from": 0, "to": 3},
        "keys": [to_structured(event) for event in genesis if event.type == type_of("KeyRegistered")],
        "members": [
            to_structured(event)
            for event in genesis
            if event.type == type_of("MemberRegistered") and event.subject in ROLL
        ],
        "chain": f"decisions-{PARTITION}", "serial": 1, "previous": None,
    }  # fmt: skip
    network.service(
        "consensus", "ConsensusReached", "decisions",
        ballot_id=ballot_id, revision=1, round=1, mode="exercise",
        tally={entry["state"]: "approve" for entry in counted}, absent=[], blocked_by=[],
        decided_at=decided_at,
        decision_digest=jsontext.digest_of(certificate), certificate=certificate,
    )  # fmt: skip
    return ballot_of(opened)


def plan_of(network: Network, revision: int, quantity: int) -> Message:
    """A plan that uses so much of AZ-1."""
    decision = next(m for m in network.messages if m.name == "ConsensusReached").data["decision_digest"]
    line = {
        "line_id": "AZ-1.1", "need_id": "N1", "pledge_id": "AZ-1", "state": "AZ", "capability": "other",
        "quantity": quantity, "unit": "person", "depart_by": "2023-02-06T09:25:00Z",
        "arrives_at": "2023-02-06T12:00:00Z", "estimated": True, "reason": "earliest arrival",
    }  # fmt: skip
    coverage = {"need_id": "N1", "requested": 1703, "covered": quantity, "on_time": quantity, "bilateral": 0}
    name = "MobilizationAuthorized" if revision == 1 else "MobilizationRevised"
    return network.service(
        "pledge", name, "mobilizations", mobilization_id="M-1", revision=revision, mode="exercise",
        decisions=[decision], authorized_at=format_instant(network.now), lines=[line] if quantity else [],
        coverage=[coverage], optimality_gap=0.0,
    )  # fmt: skip


@pytest.fixture
def played(network: Network, scenario: Scenario) -> Play:
    """A short run by hand: decided, offered, accepted, planned, departed; each settled in 4 ms."""
    decide(network, scenario)
    plan_of(network, 1, 0)
    steps = {planned.event: planned for planned in reversed(scenario.plan(REQUEST)) if planned.by in ("AZ", "TR")}
    offer = next(p for p in scenario.plan(REQUEST) if p.data.get("pledge_id") == "AZ-1")
    network.state("AZ", "PledgeOffered", **offer.data)
    network.state("TR", "PledgeAccepted", pledge_id="AZ-1", pledge_revision=1, quantity=100)
    plan_of(network, 2, 100)
    network.state("AZ", "ResourceDeparted", pledge_id="AZ-1", quantity=60, at="2023-02-06T09:25:00Z")
    network.state("AZ", "ResourceDeparted", pledge_id="AZ-1", quantity=40, at="2023-02-06T09:25:00Z")
    play = Play(scenario, REQUEST)
    for number, message in enumerate(network.messages):
        sent = None
        kind = EVENTS[message.event.type]
        if kind.signer == "state":
            planned = replace(steps.get(message.name, offer), event=message.name, data=message.data)
            assert kind.inbox is not None
            submission = Submission(
                message.event.id,
                message.event.source,
                kind.type,
                REQUEST,
                kind.inbox.name,
                PARTITION,
                number,
                0,
            )
            sent = Sent(planned, submission, number * 0.010, message, number * 0.010 + 0.004)
            play.sent.append(sent)
        play.seen.append(Seen(message, offer.at, number * 0.010 + 0.004, 0.004, sent))
    return play


def failing(checks: list[Check]) -> dict[str, str]:
    return {one.name: one.detail for one in checks if not one.ok}


def forge(message: Message, **data: Any) -> Message:
    """The message with other data under the old signature."""
    changed = message.data | data
    return replace(message, event=replace(message.event, data=jsontext.canonical(changed)), data=changed)


Spoil = Callable[[list[Message]], list[Message]]


def drop(name: str) -> Spoil:
    """Leaves out the events of a kind."""
    return lambda messages: [message for message in messages if message.name != name]


def swap(name: str, **data: Any) -> Spoil:
    """Forges the events of a kind."""
    return lambda messages: [forge(m, **data) if m.name == name else m for m in messages]


class TestChecks:
    def test_a_run_as_it_should_be_passes_every_check(self, network: Network, played: Play) -> None:
        checks = check(network.evidence(), played)
        assert failing(checks) == {}
        assert len(checks) == 9

    def test_repeated_deliveries_change_nothing(self, network: Network, played: Play) -> None:
        assert failing(check(network.evidence([*network.messages, *network.messages[3:9]]), played)) == {}

    def test_a_play_that_got_stuck_fails(self, network: Network, played: Play) -> None:
        played.trouble = "no BallotOpened within 30 s"
        assert failing(check(network.evidence(), played)) == {
            "scenario played to its end": "no BallotOpened within 30 s"
        }

    @pytest.mark.parametrize(
        ("spoil", "name", "detail"),
        [
            (drop("ConsensusReached"),
             "one closing event a ballot", "opened 1 times, closed 0 times"),
            (lambda ms: [*ms, replace(ms[1], event=replace(ms[1].event, id="again"))],
             "one closing event a ballot", "opened 2 times, closed 1 times"),
            (swap("PledgeOffered", quantity=1000),
             "every counted event verified", "the signed digest is another event's"),
            (lambda ms: [m for m in ms if not (m.name == "VoteCast" and m.data["state"] == "KZ")],
             "every counted event verified", "the counted vote of KZ does not stand on votes"),
            (swap("ConsensusReached", tally={"KZ": "object"}),
             "every certificate verified", "tally"),
            (drop("PledgeAccepted"),
             "no pledge used beyond what was accepted", "100 of AZ-1, accepted 0"),
            (drop("PledgeOffered"),
             "positions complete", "pledges: 1 missing"),
            (lambda ms: [*ms, replace(ms[-1], event=replace(ms[-1].event, id="twin"))],
             "positions complete", "has 2 events"),
            (drop("MobilizationAuthorized"),
             "one mobilisation authorised", "0 MobilizationAuthorized after 1 ConsensusReached"),
            (swap("MobilizationRevised", decisions=["sha256:0"]),
             "one mobilisation authorised", "revision 2 rests on a decision that is not published"),
            (drop("ResourceDeparted"),
             "every submission settled exactly once", "ResourceDeparted of AZ"),
            (lambda ms: [m if m.name != "ConsensusReached"
                         else forge(m, certificate=m.data["certificate"] | {"serial": 2}) for m in ms],
             "chain of certificates unbroken", "serial 2"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_found(
        self,
        network: Network,
        played: Play,
        spoil: Spoil,
        name: str,
        detail: str,
    ) -> None:
        found = failing(check(network.evidence(spoil(network.messages)), played))
        assert name in found, found
        assert detail in found[name]

    def test_more_departed_than_was_accepted_is_found(self, network: Network, played: Play) -> None:
        network.state("AZ", "ResourceDeparted", pledge_id="AZ-1", quantity=1, at="2023-02-06T09:25:00Z")
        found = failing(check(network.evidence(), played))
        assert "101 of AZ-1, accepted 100" in found["no pledge used beyond what was accepted"]

    def test_an_acceptance_taken_back_counts_from_its_step_on(self, network: Network, played: Play) -> None:
        network.state("TR", "PledgeDeclined", pledge_id="AZ-1", pledge_revision=1, reason="not needed")
        assert failing(check(network.evidence(), played)) == {}
        plan_of(network, 3, 100)
        found = failing(check(network.evidence(), played))
        assert "100 of AZ-1, accepted 0" in found["no pledge used beyond what was accepted"]

    def test_a_rejection_counts_when_the_scenario_expects_that_reason(self, network: Network, played: Play) -> None:
        offered = next(one for one in played.sent if one.planned.event == "PledgeOffered")
        sent = replace(offered, planned=replace(offered.planned, expect="not-eligible"))
        assert not submissions_settled(network.evidence(), [sent]).ok, "admitted, though it should be rejected"
        submission = replace(sent.submission, event_id="other", offset=99)
        rejection = network.service(
            "pledge", "SubmissionRejected", "rejections", source_topic=submission.topic, partition=PARTITION,
            offset=99, reason="not-eligible", detail="no", original_base64=None,
        )  # fmt: skip
        rejected = replace(sent, submission=submission, settled=rejection)
        assert submissions_settled(network.evidence(), [rejected]).ok
        unexpected = replace(rejected, planned=replace(rejected.planned, expect=None))
        assert "rejected not-eligible" in submissions_settled(network.evidence(), [unexpected]).detail


class TestTrust:
    def doubt(self, network: Network, message: Message, topic: str | None = None) -> str | None:
        return trust.doubt(message.event, topic or message.topic, network.now, network.registry)

    def test_what_is_signed_by_who_may_is_believed(self, network: Network, scenario: Scenario) -> None:
        decide(network, scenario)
        assert [self.doubt(network, message) for message in network.messages] == [None] * len(network.messages)

    def test_the_pledge_service_may_state_an_acceptance_by_policy(self, network: Network) -> None:
        data = {"pledge_id": "AZ-1", "pledge_revision": 1, "quantity": 1, "by": "policy"}
        assert self.doubt(network, network.service("pledge", "PledgeAccepted", "pledges", **data)) is None
        other = network.service("consensus", "PledgeAccepted", "pledges", **data)
        assert self.doubt(network, other) == "pledges is not written by the service consensus"

    def test_a_service_cannot_speak_for_a_state_nor_a_state_for_a_service(self, network: Network) -> None:
        vote = network.service("consensus", "VoteCast", "votes", state="KZ")
        assert self.doubt(network, vote) == "VoteCast is not a service's to state"
        plan = network.say(
            state_source(network.root.network, "KZ"), network.identity.keys / "KZ.pem",
            "MobilizationAuthorized", {}, "mobilizations",
        )  # fmt: skip
        assert self.doubt(network, plan) == "MobilizationAuthorized is not a state's to state"

    def test_another_states_key_another_topic_and_no_signature_are_doubted(self, network: Network) -> None:
        vote = network.say(
            state_source(network.root.network, "KZ"),
            network.identity.keys / "UZ.pem",
            "VoteCast",
            {},
            "votes",
        )
        assert self.doubt(network, vote) == f"signed with a key of {state_source(network.root.network, 'UZ')}"
        own = network.state("KZ", "VoteCast")
        assert self.doubt(network, own, "decisions") == "VoteCast does not belong on decisions"
        bare = replace(own, event=replace(own.event, dssematerial=None))
        assert self.doubt(network, bare) == "dssematerial: missing"
        stranger = sign(own.event, Ed25519Key.generate())
        assert self.doubt(network, replace(own, event=stranger)) == trust.UNKNOWN_KEY

    def test_a_later_versions_event_is_believed_for_its_signature(self, network: Network) -> None:
        source, key = service_source(network.root.network, "pledge"), network.identity.service_key("pledge")
        assert self.doubt(network, network.say(source, key, "SomethingNew", {}, "pledges")) is None

    def test_a_key_is_judged_by_when_the_event_was_taken(self, network: Network) -> None:
        own = network.state("KZ", "VoteCast")
        early = replace(own.event, extensions={**own.event.extensions, "recordedtime": "2020-01-01T00:00:00Z"})
        assert self.doubt(network, replace(own, event=early)) == "the key was not valid when the event was taken"


class TestReport:
    def test_the_json_is_the_contracts_object(self, network: Network, played: Play) -> None:
        timeline = Timeline(Console(quiet=True))
        for seen in played.seen:
            timeline.add(seen)
        report = Report(played, check(network.evidence(), played), timeline.entries)
        printed = json.loads(json.dumps(report.as_json()))
        assert printed["ok"] is True
        assert {"name", "ok", "detail"} == printed["checks"][0].keys()
        assert len(printed["timeline"]) == len(played.seen)
        assert printed["timeline"][0]["who"] == "TR"
        assert printed["timeline"][0]["event"] == "RequestRaised"
        assert printed["latency_ms"] == {
            "raise_to_ballot_opened": 14.0,
            "last_vote_to_authorized": 24.0,
            "submission_to_public_p50": 4.0,
            "submission_to_public_p99": 4.0,
            "acceptance_to_plan_p50": 14.0,
            "acceptance_to_plan_p99": 14.0,
        }
        assert len(printed["assumptions"]) == len(played.scenario.used_assumptions())

    def test_a_person_reads_who_what_when_coverage_and_every_assumption(self, network: Network, played: Play) -> None:
        console = Console(record=True, width=200, file=StringIO())
        Report(played, check(network.evidence(), played), []).show(console)
        text = " ".join(console.export_text().split())
        assert "AZ-1 │ 168 person, search and rescue personnel" in text
        assert "06 Feb 12:00 (estimated)" in text
        assert "1,703 *" in text
        assert "100 (5 %)" in text
        assert "There was no vote in 2023" in text
        assert text.count("holds") >= 9
        assert "FAILS" not in text

    def test_the_plan_shown_is_the_last_before_the_request_ended(self, network: Network, played: Play) -> None:
        assert (last_plan(played) or {})["revision"] == 2
        closed = network.state("TR", "RequestClosed", reason="over")
        emptied = plan_of(network, 3, 0)
        at = played.seen[-1].at
        played.seen += [Seen(closed, at, 1.0, 0.0, None), Seen(emptied, at, 1.1, 0.0, None)]
        assert (last_plan(played) or {})["revision"] == 2

    @pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.99, 4), (0.25, 1), (1.0, 4)])
    def test_quantiles_are_values_that_occurred(self, share: float, expected: int) -> None:
        assert quantile([3, 1, 4, 2], share) == expected

    def test_every_planned_event_has_words(self, scenario: Scenario) -> None:
        for planned in scenario.plan(REQUEST):
            assert what(planned.event, planned.data)
        assert what("SomethingNew", {}) == "something new"


class TestCommand:
    @pytest.fixture
    def app(self) -> typer.Typer:
        app = typer.Typer()
        app.command()(replay)
        return app

    def test_a_file_that_is_no_scenario_and_a_system_that_is_not_there_are_told_apart_from_failure(
        self, app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QALQAN_HOME", str(tmp_path))
        not_running = CliRunner().invoke(app, [str(EARTHQUAKE)])
        assert not_running.exit_code == 2
        assert "qalqan up" in not_running.output
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text("format: qalqan-scenario/1\n")
        no_scenario = CliRunner().invoke(app, [str(wrong), "--json"])
        assert no_scenario.exit_code == 2
        assert "wrong.yaml:1: title: Field required" in no_scenario.output
        assert CliRunner().invoke(app, [str(tmp_path / "none.yaml")]).exit_code == 2

    @pytest.mark.parametrize(("spoilt", "code"), [(False, 0), (True, 1)])
    def test_it_leaves_with_0_only_if_every_check_holds(
        self, network: Network, played: Play, capsys: pytest.CaptureFixture[str], spoilt: bool, code: int
    ) -> None:
        messages = network.messages[1:] if spoilt else network.messages
        with pytest.raises(typer.Exit) as left:
            finish(Report(played, check(network.evidence(messages), played), []), json=True)
        assert left.value.exit_code == code
        printed = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert printed["ok"] is not spoilt


class TestRunInfo:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QALQAN_HOME", str(tmp_path))
        run = RunInfo(network="n", kafka="127.0.0.1:9", root="r.json", keys=str(tmp_path), http={"request": "http://x"})
        (tmp_path / "run.json").write_text(run.model_dump_json())
        assert RunInfo.load() == run
        assert run.key_path("KZ") == tmp_path / "KZ.pem"

    @pytest.mark.parametrize("content", [None, "{", "{}"])
    def test_without_one_it_says_what_to_do(self, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "run.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(NotRunning, match=r"run\.json"):
            RunInfo.load(path)
