"""The scenario format, and the scenario of 6 February 2023 in it."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from qalqan.events import EVENTS, type_of
from qalqan.replay.scenario import BadScenario, Scenario, load, parse, read_yaml, schema

SCENARIOS = Path(__file__).parents[1] / "scenarios"
EARTHQUAKE = SCENARIOS / "tr-earthquake-2023-02-06.yaml"

SMALL = """\
format: qalqan-scenario/1
title: A flood
mode: test
request_id: KG-2024-0001
sources:
  paper: {name: "A paper, 2024", address: "https://example.org/flood"}
assumptions:
  guess: Nobody published it.
places:
  Osh: {country: KG, lat: 40.6, lon: 72.8}
  Almaty: {country: KZ}
defaults:
  pledge: {mode_of_transport: road, transport: own, assumption: guess}
steps:
  - at: 2024-05-01T08:00:00Z
    by: KG
    do: raise
    source: paper
    emergency: {kind: flood, title: A flood, place: Osh, severity: Severe, source: paper}
    needs:
      - {need_id: N1, capability: tent, quantity: 100, unit: item, priority: 1, deliver_to: Osh,
         source: paper, assumption: {priority: guess}}
  - {at: 2024-05-01T09:00:00Z, by: KZ, do: vote, position: object, reason: the dam is shut,
     assumption: guess}
  - {at: 2024-05-01T10:00:00Z, by: KZ, do: pledge, pledge_id: KZ-1, answers: [N1], quantity: 60,
     origin: Almaty, ready_at: 2024-05-01T12:00:00Z, source: paper, assumption: {ready_at: guess}}
  - {at: 2024-05-01T10:30:00Z, by: KG, do: accept, pledges: [KZ-1], quantity: 50, assumption: guess}
  - {at: 2024-05-01T10:40:00Z, by: KZ, do: accept, pledges: [KZ-1], expect: not-allowed, assumption: guess}
  - {at: 2024-05-01T12:00:00Z, by: KZ, do: depart, pledges: [KZ-1], quantity: 50, assumption: guess}
  - {at: 2024-05-02T12:00:00Z, by: KG, do: arrive, pledges: [KZ-1], quantity: 50, assumption: guess}
  - {at: 2024-05-03T12:00:00Z, by: KG, do: close, reason: the water fell, assumption: guess}
"""


@pytest.fixture(scope="module")
def earthquake() -> Scenario:
    return load(EARTHQUAKE)


class TestFormat:
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "flood.yaml"
        for content, what in ((None, "No such file"), (b"\xff", "not UTF-8")):
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(BadScenario, match=rf"flood\.yaml: {what}"):
                load(file)

    def test_the_schema_in_the_repository_is_the_models(self) -> None:
        written = json.loads((SCENARIOS / "scenario.schema.json").read_text("utf-8"))
        assert written == schema(), (
            "write it anew: python -m qalqan.replay.scenario > tests/scenarios/scenario.schema.json"
        )

    def test_the_schema_is_one_and_takes_what_the_loader_takes(self) -> None:
        Draft202012Validator.check_schema(schema())
        for text in (SMALL, EARTHQUAKE.read_text("utf-8")):
            errors = list(Draft202012Validator(schema()).iter_errors(read_yaml(text, "")[1]))
            assert not errors, errors[0].message

    def test_the_schema_refuses_a_misspelt_field(self) -> None:
        _, wrong = read_yaml(SMALL.replace("reason: the water fell", "reasn: the water fell"), "")
        assert list(Draft202012Validator(schema()).iter_errors(wrong))

    def test_steps_become_the_contracts_data(self) -> None:
        plan = parse(SMALL).plan("KG-2024-0001-2")
        assert [(planned.by, planned.event) for planned in plan] == [
            ("KG", "RequestRaised"),
            ("KZ", "VoteCast"),
            ("KZ", "PledgeOffered"),
            ("KG", "PledgeAccepted"),
            ("KZ", "PledgeAccepted"),
            ("KZ", "ResourceDeparted"),
            ("KG", "ResourceArrived"),
            ("KG", "RequestClosed"),
        ]
        assert {planned.data["request_id"] for planned in plan} == {"KG-2024-0001-2"}
        assert plan[0].data["needs"][0]["deliver_to"] == {
            "name": "Osh",
            "country": "KG",
            "lat": 40.6,
            "lon": 72.8,
        }
        offer = plan[2].data
        assert (offer["capability"], offer["unit"]) == ("tent", "item"), "taken from the need"
        assert (offer["mode_of_transport"], offer["transport"]) == ("road", "own"), "taken from the defaults"
        assert offer["ready_at"] == "2024-05-01T12:00:00Z"
        assert offer["pledging_state"] == "KZ"
        assert plan[2].assumed == ("ready_at",)
        assert plan[3].data == {
            "request_id": "KG-2024-0001-2", "pledge_id": "KZ-1", "pledge_revision": 1, "quantity": 50
        }  # fmt: skip
        assert plan[4].expect == "not-allowed"
        assert plan[5].data["place"]["name"] == "Almaty"
        assert plan[6].data["place"]["name"] == "Osh"

    def test_assumptions_are_gathered_with_the_figures_that_rest_on_them(self) -> None:
        (assumption,) = parse(SMALL).used_assumptions()
        assert assumption.why == "Nobody published it."
        assert "every pledge mode_of_transport" in assumption.figures
        assert "KZ-1 ready_at" in assumption.figures
        assert "N1 priority" in assumption.figures
        assert "KZ-1 quantity" not in assumption.figures

    @pytest.mark.parametrize(
        ("before", "after", "complaint"),
        [
            ("quantity: 60", "quantity: sixty", "flood.yaml:25: steps[2].quantity: "),
            ("quantity: 60", "quantity: 0", "flood.yaml:25: steps[2].quantity: "),
            ("do: close", "do: finish", "steps[7]: Input tag 'finish'"),
            ("reason: the water fell, ", "", "steps[7].reason: Field required"),
            (", reason: the dam is shut", "", "flood.yaml:23: steps[1]: VoteCast: an objection needs"),
            ("source: paper, assumption: {ready_at", "assumption: {ready_at", "neither a source nor"),
            ("{ready_at: guess}", "{redy_at: guess}", "steps[2]: redy_at: no figure given here"),
            ("{ready_at: guess}", "guess", "a source and an assumption for everything"),
            ("{ready_at: guess}", "{ready_at: gues}", "KZ-1 ready_at names the assumption 'gues'"),
            ("12:00:00Z, source: paper", "12:00:00Z, source: papr", "KZ-1 names the source 'papr'"),
            ("origin: Almaty", "origin: Alma", "steps[2]: 'Alma' is not in `places`"),
            ("answers: [N1]", "answers: [N2]", "flood.yaml:25: steps[2].answers: the request has no need"),
            ("pledge_id: KZ-1", "pledge_id: KG-1", "steps[2].pledge_id: must begin with the"),
            ("pledges: [KZ-1], quantity: 50, assumption: guess}\n  - {at: 2024-05-01T10:40",
             "pledges: [KZ-2], quantity: 50, assumption: guess}\n  - {at: 2024-05-01T10:40",
             "steps[3].pledges[0]: KZ-2 was not offered before"),
            ("expect: not-allowed, ", "", "steps[4].by: KZ may not accept KZ-1"),
            ("expect: not-allowed", "expect: never", "steps[4].expect: "),
            ("by: KG, do: close", "by: KZ, do: close", "steps[7].by: only KG may close"),
            ("2024-05-02T12:00:00Z", "2024-04-02T12:00:00Z", "steps[6].at: before the step above it"),
            ("2024-05-02T12:00:00Z", "2024-05-02 12:00", "steps[6].at: not an instant in UTC"),
            ("request_id: KG-2024-0001", "request_id: KZ-2024-0001", "4: request_id: must begin with"),
            ("capability: tent", "capability: yurt", "steps[0].needs[0].capability: 'yurt' is not in"),
            ("capability: tent", "capability: other", "needs[0]: RequestRaised: `other` needs a `text`"),
            ("title: A flood\nmode", "title: A flood\ntitle: Twice\nmode", "yaml:3: 'title' stands twice"),
            ("places:", "places: &here", "aliases"),
            ("format: qalqan-scenario/1", "format: qalqan-scenario/2", "flood.yaml:1: format: "),
            ("steps:", "steps: [", "flood.yaml:"),
        ],
    )  # fmt: skip
    def test_a_trouble_is_named_with_file_line_path_and_what(self, before: str, after: str, complaint: str) -> None:
        assert before in SMALL
        text = SMALL.replace(before, after, 1)
        if complaint == "aliases":
            text = text.replace("origin: Almaty", "origin: *here")
        with pytest.raises(BadScenario) as caught:
            parse(text, "flood.yaml")
        assert complaint in str(caught.value), str(caught.value)
        assert str(caught.value).startswith("flood.yaml:")

    @pytest.mark.parametrize("text", ["", "[]", "just words", "a: b", "\t- x", "steps: {}"])
    def test_what_is_no_scenario_is_said_to_be_none(self, text: str) -> None:
        with pytest.raises(BadScenario, match=r"^scenario:\d+: "):
            parse(text)


class TestEarthquake:
    def test_everything_in_it_is_what_the_contract_takes(self, earthquake: Scenario) -> None:
        plan = earthquake.plan("TR-2023-0001")
        assert len(plan) > 200
        for planned in plan:
            data = planned.data
            if planned.event == "VoteCast":
                data = data | {"ballot_id": "sha256:" + "0" * 64, "round": 1, "sequence": 1}
            EVENTS[type_of(planned.event)].model.model_validate(data)
            assert planned.expect is None

    def test_every_state_acts_in_its_part(self, earthquake: Scenario) -> None:
        acts = Counter((step.by, step.do) for step in earthquake.steps)
        voters = {by for by, do in acts if do == "vote"}
        assert voters == {"AZ", "KG", "KZ", "UZ"}, "TR's request is its approval; observers have a voice, no vote"
        assert {by for by, do in acts if do == "pledge"} == {"AZ", "HU", "KG", "KZ", "TM", "TRNC", "UZ"}
        assert {by for by, do in acts if do in ("raise", "accept", "close")} == {"TR"}

    def test_published_figures_are_played_as_published(self, earthquake: Scenario) -> None:
        offers = earthquake.pledges()
        published = {
            "AZ-1": 168, "AZ-2": 233, "AZ-3": 21, "AZ-7": 229, "AZ-9": 8, "AZ-10-tents": 1015, "AZ-11": 240,
            "KZ-1": 41, "KZ-2": 60, "KZ-4": 1_000_000, "KZ-5": 125, "KG-1": 67, "KG-2": 80, "KG-2-yurts": 78,
            "KG-3-yurts": 52, "UZ-1": 100, "UZ-2": 71, "UZ-2-dogs": 10, "HU-1": 55, "HU-1-dogs": 2,
            "HU-2": 16, "HU-3": 50, "TM-1": 10, "TM-2": 8600, "TM-3": 1000, "TRNC-1": 30, "TRNC-2": 10,
            "TRNC-7": 8_500_000,
        }  # fmt: skip
        assert {pledge_id: offers[pledge_id].quantity for pledge_id in published} == published
        assert "quantity" not in offers["AZ-1"].assumed()
        assert "ready_at" in offers["AZ-1"].assumed()
        units = {planned.data.get("unit") for planned in earthquake.plan("TR-2023-0001")}
        assert "team" not in units, "no team is invented"

    def test_what_nobody_published_is_an_assumption(self, earthquake: Scenario) -> None:
        assert all("quantity" in need.assumed() for need in earthquake.raised.needs)
        for step in earthquake.steps:
            if step.do in ("vote", "accept"):
                assert set(step.assumed()) == set(step.figures)
        not_sent = {"KZ-5", "UZ-5"}
        accepted = {p.data["pledge_id"] for p in earthquake.plan("TR-2023-0001") if p.event == "PledgeAccepted"}
        assert accepted == set(earthquake.pledges()) - not_sent

    def test_sources_have_their_addresses_and_all_are_used(self, earthquake: Scenario) -> None:
        text = EARTHQUAKE.read_text("utf-8")
        for key, source in earthquake.sources.items():
            addresses = [source.address] if isinstance(source.address, str) else source.address
            assert all(address.startswith(("http://", "https://")) for address in addresses) or key == "airportsdata"
            assert len(re.findall(rf"\b{re.escape(key)}\b", text)) > 1, f"{key} is used nowhere"
        assert len(earthquake.conflicts) >= 10

    def test_assumptions_are_sentences_and_all_are_used(self, earthquake: Scenario) -> None:
        used = earthquake.used_assumptions()
        assert {assumption.why for assumption in used} >= set(earthquake.assumptions.values())
        assert all(assumption.why.endswith((".", ").")) and assumption.figures for assumption in used)
