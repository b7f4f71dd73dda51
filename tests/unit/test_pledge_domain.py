"""The pure domain of the pledge service: examples of the contract's rules, and properties."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise, product
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.facts import Fact, Incoming, NotYet, Refused, forwarded
from qalqan import topics
from qalqan.events import (
    EVENTS,
    BallotOpened,
    BallotRecord,
    BallotWithdrawn,
    ConsensusBlocked,
    ConsensusReached,
    Coverage,
    Line,
    MandateEnded,
    Mobilization,
    MobilizationAuthorized,
    MobilizationRevised,
    PledgeAccepted,
    PledgeDeclined,
    PledgeOffered,
    PledgeWithdrawn,
    Report,
    RequestAmended,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    ResourceArrived,
    ResourceCommitted,
    ResourceDeparted,
    ResourceReleased,
)
from qalqan.fields import Model, Place
from qalqan.signing import Ed25519Key, PublicKey, read_material, verify
from services.pledge.domain import State, decide, due, due_at, evolve
from services.pledge.domain.allocator import Allocation, Allocator, Demand, Share, Supply
from services.pledge.domain.estimate import arrival, great_circle_km
from services.pledge.domain.first_arrival import FirstArrival
from services.pledge.domain.plan import FIRST_ARRIVAL
from tests.unit.builders import HOUR, REQUEST_ID, T0, digest, event, example, incoming, need

M = TypeVar("M", bound=Model)


@dataclass
class Lane:
    """What the shell does around the domain, without its database: one request's records, in order."""

    allocator: Allocator = FIRST_ARRIVAL
    state: State | None = None
    facts: list[Fact] = field(default_factory=list)
    """All that stands on public topics, in the order it was folded."""
    at: datetime = T0

    def submit(self, model: type[Model], *, by: str | None = None, **changes: object) -> list[Model]:
        """A submission: what is stated of it. Raises Refused, NotYet."""
        record = incoming(example(model, **changes), by=by, at=self.at)
        stated = decide(self.state, record, self.at, self.allocator)
        self._fold(stated)
        return [fact.data for fact in stated]

    def read(self, model: type[Model], **changes: object) -> list[Model]:
        """A record of `requests` or `decisions`: what follows from it."""
        data = example(model, **changes)
        topic = topics.REQUESTS if model.__name__.startswith("Request") else topics.DECISIONS
        record = incoming(data, at=self.at, topic=topic)
        self._fold([forwarded(record)])
        stated = decide(self.state, record, self.at, self.allocator)
        self._fold(stated)
        return [fact.data for fact in stated]

    def refused(self, model: type[Model], *, by: str | None = None, **changes: object) -> tuple[str, str]:
        """The reason and detail of a submission that must be refused and change nothing."""
        before = self.state
        with pytest.raises(Refused) as caught:
            self.submit(model, by=by, **changes)
        assert self.state is before
        return caught.value.reason, caught.value.detail

    def _fold(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.state = evolve(self.state, fact, self.allocator)
            self.facts.append(fact)

    def stated(self) -> list[Mobilization]:
        return [fact.data for fact in self.facts if isinstance(fact.data, Mobilization)]

    @property
    def lines(self) -> list[tuple[str, int]]:
        return [(line.line_id, line.quantity) for line in self.stated()[-1].lines]

    @property
    def coverage(self) -> list[tuple[int, int, int, int]]:
        return [(c.requested, c.covered, c.on_time, c.bilateral) for c in self.stated()[-1].coverage]


def ballot(*items: str, name: str = "ballot") -> dict[str, object]:
    record = example(BallotOpened).ballot.model_dump(mode="json")
    return {
        "ballot_id": digest(name),
        "ballot": BallotRecord.model_validate({**record, "items": list(items)}),
    }


def raised(*needs: dict[str, object], **changes: object) -> Lane:
    """A request that is known, with a ballot open on all its needs."""
    lane = Lane()
    wanted = list(needs) or [need()]
    lane.read(RequestRaised, needs=wanted, **changes)
    lane.read(BallotOpened, **ballot(*(str(each["need_id"]) for each in wanted)))
    return lane


def accepted(*needs: dict[str, object]) -> Lane:
    """A request with AZ-1 offered and all 4 of it accepted."""
    lane = raised(*needs)
    lane.submit(PledgeOffered)
    lane.submit(PledgeAccepted)
    return lane


def authorized() -> Lane:
    """As `accepted`, and consensus reached."""
    lane = accepted()
    lane.read(ConsensusReached)
    return lane


# --- offers -------------------------------------------------------------------------------------------------


def test_an_offer_for_an_unknown_request_waits_by_its_pledge() -> None:
    lane = Lane()
    with pytest.raises(NotYet) as caught:
        lane.submit(PledgeOffered)
    assert caught.value.queue == "AZ-1"
    lane.read(BallotOpened, **ballot("N1"))
    with pytest.raises(NotYet):
        lane.submit(PledgeOffered)


@pytest.mark.parametrize("model", [PledgeWithdrawn, PledgeAccepted, PledgeDeclined, ResourceDeparted])
def test_anything_else_for_an_unknown_request_or_pledge_is_refused(model: type[Model]) -> None:
    assert Lane().refused(model)[0] == "unknown-request"
    assert raised().refused(model)[0] == "unknown-pledge"


def test_an_offer_stands_as_it_came() -> None:
    lane = raised()
    record = incoming(example(PledgeOffered), at=T0 + HOUR)
    assert decide(lane.state, record, T0 + HOUR) == [forwarded(record)]


def test_a_pledge_id_is_taken_once() -> None:
    lane = raised()
    lane.submit(PledgeOffered)
    assert lane.refused(PledgeOffered, quantity=1) == ("not-allowed", "pledge_id AZ-1 is taken")


def test_an_answer_to_a_need_that_is_not_there_names_those_that_are() -> None:
    """It waits a moment, by its pledge: the need may stand in an amendment that is still to be read."""
    lane = raised(need("N1"), need("N2"))
    with pytest.raises(NotYet) as caught:
        lane.submit(PledgeOffered, answers=["N1", "N7"])
    assert caught.value.queue == "AZ-1"
    assert caught.value.otherwise is not None
    assert caught.value.otherwise.reason == "bad-data"
    assert "N7" in caught.value.otherwise.detail
    assert "N1, N2" in caught.value.otherwise.detail
    lane.read(RequestAmended, needs=[need("N1"), need("N7")])
    opened = ballot("N1", "N7", name="second")
    record = opened["ballot"]
    assert isinstance(record, BallotRecord)
    lane.read(BallotOpened, **opened | {"ballot": record.model_copy(update={"revision": 2})})
    assert [type(data) for data in lane.submit(PledgeOffered, answers=["N1", "N7"])] == [PledgeOffered]


@pytest.mark.parametrize("end", [RequestCancelled, RequestClosed])
def test_after_the_request_only_what_takes_back_or_reports_is_taken(end: type[Model]) -> None:
    lane = accepted()
    lane.submit(PledgeOffered, pledge_id="AZ-2")
    lane.submit(PledgeOffered, pledge_id="AZ-3")
    assert lane.read(end) == []
    assert lane.refused(PledgeOffered, pledge_id="AZ-4")[0] == "request-closed"
    assert lane.refused(PledgeAccepted, pledge_id="AZ-2")[0] == "request-closed"
    assert len(lane.submit(PledgeDeclined, pledge_id="AZ-2")) == 1
    assert len(lane.submit(PledgeWithdrawn, pledge_id="AZ-3")) == 1
    assert len(lane.submit(ResourceDeparted)) == 1


# --- acceptance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"by": "AZ"}, "not-allowed"),
        ({"by": "KZ"}, "not-allowed"),
        ({"pledge_revision": 2}, "not-allowed"),
        ({"quantity": 5}, "over-accepted"),
        ({"quantity": 1}, "not-allowed"),
    ],
)
def test_an_acceptance_must_fit_the_offer(changes: dict[str, Any], reason: str) -> None:
    lane = raised()
    lane.submit(PledgeOffered, min_quantity=2)
    assert lane.refused(PledgeAccepted, **changes)[0] == reason
    assert len(lane.submit(PledgeAccepted, quantity=2)) == 1


def test_policy_is_not_a_states_to_claim() -> None:
    lane = raised()
    lane.submit(PledgeOffered)
    record = incoming(PledgeAccepted.model_validate({**example(PledgeAccepted).model_dump(), "by": "policy"}))
    with pytest.raises(Refused) as caught:
        decide(lane.state, record, T0)
    assert caught.value.reason == "bad-data"


def test_an_earlier_revision_is_stale() -> None:
    lane = raised()
    lane.submit(PledgeOffered)
    assert lane.state is not None
    revised = lane.state.pledges["AZ-1"].model_copy(update={"revision": 2})
    lane.state = lane.state.model_copy(update={"pledges": {"AZ-1": revised}})
    assert lane.refused(PledgeAccepted)[0] == "stale"
    assert lane.refused(PledgeDeclined)[0] == "stale"
    assert len(lane.submit(PledgeAccepted, pledge_revision=2)) == 1


def test_what_is_not_divisible_is_accepted_whole() -> None:
    lane = raised()
    lane.submit(PledgeOffered, divisible=False)
    assert lane.refused(PledgeAccepted, quantity=3)[0] == "not-allowed"
    assert len(lane.submit(PledgeAccepted, quantity=4)) == 1


def test_an_expired_offer_cannot_be_accepted() -> None:
    lane = raised()
    lane.submit(PledgeOffered)
    lane.at = datetime.fromisoformat("2023-02-08T00:00:00Z")
    assert lane.refused(PledgeAccepted)[0] == "too-late"
    lane.at -= timedelta(milliseconds=1)
    assert len(lane.submit(PledgeAccepted)) == 1


def test_a_later_answer_replaces_the_earlier() -> None:
    lane = authorized()
    assert lane.lines == [("AZ-1.1", 4)]
    lane.submit(PledgeAccepted, quantity=2)
    assert lane.lines == [("AZ-1.1", 2)]
    lane.submit(PledgeDeclined)
    assert lane.lines == []
    lane.submit(PledgeAccepted, quantity=3)
    assert lane.lines == [("AZ-1.1", 3)]
    assert lane.submit(PledgeAccepted, quantity=3)[1:] == []  # nothing changed: no revision
    lane.submit(PledgeWithdrawn)
    assert lane.lines == []
    assert lane.refused(PledgeAccepted)[0] == "not-allowed"
    assert lane.refused(PledgeDeclined)[0] == "not-allowed"
    assert lane.refused(ResourceDeparted)[0] == "not-allowed"
    assert [each.revision for each in lane.stated()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("model", "wrong"), [(PledgeWithdrawn, "TR"), (PledgeDeclined, "AZ")])
def test_each_takes_back_its_own(model: type[Model], wrong: str) -> None:
    lane = accepted()
    assert lane.refused(model, by=wrong)[0] == "not-allowed"


def test_automatic_acceptance_takes_at_once_what_answers_a_need() -> None:
    lane = raised(acceptance="automatic")
    offer, answer = lane.submit(PledgeOffered)
    assert isinstance(offer, PledgeOffered)
    assert isinstance(answer, PledgeAccepted)
    assert (answer.by, answer.quantity, answer.pledge_revision) == ("policy", 4, 1)
    others: dict[str, dict[str, Any]] = {
        "AZ-2": {"answers": []},
        "AZ-3": {"capability": "tent", "unit": "item"},
        "AZ-4": {"offer_expires_at": "2023-02-06T01:00:00Z"},
    }
    for pledge_id, changes in others.items():
        assert len(lane.submit(PledgeOffered, pledge_id=pledge_id, **changes)) == 1
    lane.read(ConsensusReached)
    assert lane.lines == [("AZ-1.1", 4)]
    stated = lane.submit(PledgeOffered, pledge_id="AZ-5", quantity=1)
    assert [type(each) for each in stated] == [PledgeOffered, PledgeAccepted, MobilizationRevised]


# --- reports ------------------------------------------------------------------------------------------------


def test_reports_of_each_kind_add_up_to_what_was_accepted_at_most() -> None:
    lane = accepted()
    for model in (ResourceCommitted, ResourceDeparted, ResourceArrived, ResourceReleased):
        lane.submit(model, quantity=3)
        assert lane.refused(model, quantity=2)[0] == "over-accepted"
        lane.submit(model, quantity=1)
        assert lane.refused(model, quantity=1)[0] == "over-accepted"
    assert lane.stated() == []


def test_nothing_leaves_that_was_not_accepted() -> None:
    lane = raised()
    lane.submit(PledgeOffered)
    assert lane.refused(ResourceCommitted)[0] == "over-accepted"
    assert lane.refused(ResourceDeparted)[0] == "over-accepted"


@pytest.mark.parametrize("model", [ResourceArrived, ResourceReleased])
def test_only_what_departed_arrives_or_is_released(model: type[Report]) -> None:
    lane = accepted()
    assert lane.refused(model)[0] == "not-allowed"
    lane.submit(ResourceDeparted, quantity=2)
    assert lane.refused(model, quantity=3)[0] == "not-allowed"
    lane.submit(model, quantity=2)


def test_who_reports_what() -> None:
    lane = accepted()
    for own in (ResourceCommitted, ResourceDeparted):
        assert lane.refused(own, by="TR")[0] == "not-allowed"
        lane.submit(own, by="AZ", quantity=2)
    for shared in (ResourceArrived, ResourceReleased):
        assert lane.refused(shared, by="KZ")[0] == "not-allowed"
        lane.submit(shared, by="TR")
        lane.submit(shared, by="AZ")


def test_after_departure_there_is_no_way_back() -> None:
    lane = accepted()
    lane.submit(ResourceDeparted, quantity=2)
    assert lane.refused(PledgeWithdrawn)[0] == "not-allowed"
    assert lane.refused(PledgeDeclined)[0] == "not-allowed"
    assert lane.refused(PledgeAccepted, quantity=1)[0] == "not-allowed"
    lane.submit(PledgeAccepted, quantity=2)


def test_a_report_names_a_line_that_was_stated_or_none() -> None:
    lane = accepted()
    assert lane.refused(ResourceDeparted, line_id="AZ-1.1")[0] == "not-allowed"
    lane.submit(ResourceDeparted)  # a plane may leave before any decision
    lane.submit(PledgeOffered, pledge_id="KZ-1", pledging_state="KZ")
    lane.submit(PledgeAccepted, pledge_id="KZ-1")
    lane.read(ConsensusReached)
    lane.submit(ResourceDeparted, line_id="AZ-1.1")
    assert lane.refused(ResourceDeparted, line_id="KZ-1.1")[0] == "not-allowed"
    assert lane.refused(ResourceDeparted, line_id="AZ-1.2")[0] == "not-allowed"
    assert len(lane.stated()) == 1  # reports move no plan


# --- mobilisation -------------------------------------------------------------------------------------------


def test_consensus_authorises_at_once_also_with_nothing_accepted() -> None:
    lane = raised()
    lane.at = T0 + HOUR
    (stated,) = lane.read(ConsensusReached)
    assert stated == MobilizationAuthorized(
        request_id=REQUEST_ID,
        mobilization_id=f"M-{REQUEST_ID}",
        revision=1,
        mode="actual",
        decisions=[digest("decision")],
        authorized_at=T0 + HOUR,
        lines=[],
        coverage=[Coverage(need_id="N1", requested=10, covered=0, on_time=0, bilateral=0)],
        optimality_gap=None,
    )
    lane.at = T0 + 2 * HOUR
    lane.submit(PledgeOffered)
    _, revised = lane.submit(PledgeAccepted)
    assert isinstance(revised, MobilizationRevised)
    assert (revised.revision, revised.authorized_at) == (2, T0 + HOUR)
    assert revised.lines == [
        Line(
            line_id="AZ-1.1",
            need_id="N1",
            pledge_id="AZ-1",
            state="AZ",
            capability="HUSAR",
            quantity=4,
            unit="team",
            depart_by=datetime.fromisoformat("2023-02-06T06:32:00Z"),
            arrives_at=datetime.fromisoformat("2023-02-06T12:00:00Z"),
            estimated=False,
            reason="Among the first to arrive for what is asked with priority 1, in place of MUSAR; in time",
        )
    ]
    assert lane.coverage == [(10, 4, 4, 0)]


@pytest.mark.parametrize("model", [ConsensusBlocked, BallotWithdrawn])
def test_without_consensus_nothing_is_mobilised(model: type[Model]) -> None:
    lane = accepted()
    assert lane.read(model) == []
    assert lane.stated() == []


def test_a_decision_read_before_its_request_waits_for_it() -> None:
    lane = Lane()
    assert lane.read(BallotOpened, **ballot("N1")) == []
    assert lane.read(ConsensusReached) == []
    (stated,) = lane.read(RequestRaised)
    assert isinstance(stated, MobilizationAuthorized)
    assert lane.read(RequestClosed) == []


def test_a_mandate_that_ended_before_the_request_was_read_shows_as_a_revision() -> None:
    lane = Lane()
    lane.read(BallotOpened, **ballot("N1"))
    lane.read(ConsensusReached)
    lane.read(MandateEnded)
    first, second = lane.read(RequestRaised)
    assert isinstance(first, MobilizationAuthorized)
    assert first.decisions == [digest("decision")]
    assert isinstance(second, MobilizationRevised)
    assert second.decisions == []


def test_the_mandates_end_stands_down_what_has_not_departed() -> None:
    lane = accepted()
    lane.submit(PledgeOffered, pledge_id="AZ-2", quantity=2)
    lane.submit(PledgeAccepted, pledge_id="AZ-2", quantity=2)
    lane.read(ConsensusReached)
    assert lane.lines == [("AZ-1.1", 4), ("AZ-2.1", 2)]
    lane.submit(ResourceDeparted, quantity=1, line_id="AZ-1.1")
    lane.submit(ResourceDeparted, quantity=2)
    assert lane.read(RequestClosed) == []  # `decisions` alone steers
    (revised,) = lane.read(MandateEnded)
    assert isinstance(revised, MobilizationRevised)
    assert revised.decisions == []
    assert lane.lines == [("AZ-1.1", 3)]
    assert lane.coverage == [(10, 3, 3, 0)]
    lane.submit(ResourceDeparted, quantity=1)  # taken, and the plan does not grow by it
    lane.submit(PledgeWithdrawn, pledge_id="AZ-2")
    assert len(lane.stated()) == 2


def test_needs_are_mobilised_as_they_are_decided() -> None:
    lane = Lane()
    lane.read(RequestRaised, needs=[need("N1", quantity=1), need("N2", quantity=1)])
    lane.read(BallotOpened, **ballot("N1", name="b1"))
    lane.read(BallotOpened, **ballot("N2", name="b2"))
    lane.submit(PledgeOffered, answers=[])
    lane.submit(PledgeAccepted)
    lane.read(ConsensusReached, ballot_id=digest("b2"), decision_digest=digest("d2"))
    assert lane.lines == [("AZ-1.2", 1)]
    lane.read(ConsensusReached, ballot_id=digest("b1"), decision_digest=digest("d1"))
    assert lane.lines == [("AZ-1.1", 1), ("AZ-1.2", 1)]
    assert lane.stated()[-1].decisions == [digest("d2"), digest("d1")]


def test_a_later_decision_on_the_same_needs_replaces_the_earlier() -> None:
    lane = authorized()
    lane.read(BallotOpened, **ballot("N1", name="b2"))
    lane.read(ConsensusReached, ballot_id=digest("b2"), decision_digest=digest("d2"))
    assert lane.stated()[-1].decisions == [digest("d2")]
    assert [each.revision for each in lane.stated()] == [1, 2]


def test_bilateral_help_counts_in_coverage_and_stands_in_no_line() -> None:
    lane = raised(need("N1", quantity=5))
    lane.submit(PledgeOffered, channel="bilateral", quantity=3)
    lane.submit(PledgeAccepted, quantity=3)
    lane.submit(PledgeOffered, pledge_id="KZ-1", pledging_state="KZ")
    lane.submit(PledgeAccepted, pledge_id="KZ-1")
    lane.read(ConsensusReached)
    assert lane.lines == [("KZ-1.1", 2)]
    assert lane.coverage == [(5, 5, 5, 3)]
    lane.submit(ResourceDeparted, quantity=3)
    lane.read(MandateEnded)
    assert lane.lines == []
    assert lane.coverage == [(5, 3, 3, 3)]  # no ballot, so no mandate that could end


def test_what_has_departed_keeps_its_place() -> None:
    lane = raised(need("N1", quantity=4))
    lane.submit(PledgeOffered)
    lane.submit(PledgeAccepted)
    lane.read(ConsensusReached)
    lane.submit(ResourceDeparted, quantity=3)
    lane.submit(PledgeOffered, pledge_id="KZ-1", pledging_state="KZ", arrives_at="2023-02-06T07:00:00Z")
    lane.submit(PledgeAccepted, pledge_id="KZ-1")
    assert lane.lines == [("KZ-1.1", 1), ("AZ-1.1", 3)]


def test_a_mobilisation_that_was_lost_before_it_was_published_is_owed() -> None:
    lane = authorized()
    assert lane.state is not None
    assert due_at(lane.state) is None
    lost = evolve(accepted().state, Fact(example(ConsensusReached)))
    at = due_at(lost)
    assert at == example(ConsensusReached).decided_at
    (stated,) = due(lost, T0)
    assert stated.data == lane.stated()[-1]
    assert due_at(evolve(lost, stated)) is None


# --- lines --------------------------------------------------------------------------------------------------


def plan_of(needs: Sequence[dict[str, object]], *offers: Mapping[str, Any]) -> Lane:
    lane = raised(*needs)
    for number, offer in enumerate(offers, 1):
        content: dict[str, Any] = {"pledge_id": f"AZ-{number}", "answers": [], **offer}
        lane.submit(PledgeOffered, **content)
        lane.submit(PledgeAccepted, pledge_id=f"AZ-{number}", quantity=offer.get("quantity", 4))
    lane.read(ConsensusReached)
    return lane


def test_first_by_priority_then_by_arrival() -> None:
    lane = plan_of(
        [need("N1", quantity=3, priority=2), need("N2", quantity=5, priority=1)],
        {"arrives_at": "2023-02-06T20:00:00Z"},
        {"arrives_at": "2023-02-06T10:00:00Z"},
    )
    assert lane.lines == [("AZ-1.1", 3), ("AZ-2.2", 4), ("AZ-1.2", 1)]


def test_a_pledge_goes_only_where_it_fits() -> None:
    needs = [need("N1"), need("N2", capability="tent", unit="item", substitutes=[])]
    lane = plan_of(
        needs,
        {"answers": ["N2"]},
        {"unit": "person"},
        {"capability": "tent", "unit": "item"},
        {"capability": "tent", "unit": "kg"},
    )
    assert lane.lines == [("AZ-3.2", 4)]


def test_other_fits_only_what_it_answers() -> None:
    needs = [need("N1", capability="other", text="Yurts", unit="item", substitutes=[])]
    other = {"capability": "other", "text": "Stoves", "unit": "item"}
    assert plan_of(needs, other).lines == []
    assert plan_of(needs, {**other, "answers": ["N1"]}).lines == [("AZ-1.1", 4)]


def test_what_is_not_divisible_is_not_divided() -> None:
    lane = plan_of([need("N1", quantity=2), need("N2", quantity=3)], {"divisible": False})
    assert lane.lines == [("AZ-1.2", 3)]


def test_a_pledge_makes_room_for_one_that_can_serve_nothing_else() -> None:
    needs = [need("N1", quantity=4), need("N2", quantity=4)]
    assert plan_of(needs, {}, {"answers": ["N1"]}).lines == [("AZ-2.1", 4), ("AZ-1.2", 4)]


def test_late_and_unknown_arrivals_are_covered_but_not_in_time() -> None:
    nowhere = {"name": "Somewhere", "country": "AZ"}
    lane = plan_of(
        [need("N1")],
        {"quantity": 1, "arrives_at": "2023-02-08T05:00:00Z"},
        {"quantity": 2, "arrives_at": None, "origin": nowhere},
    )
    assert lane.coverage == [(10, 3, 0, 0)]
    late, unknown = lane.stated()[-1].lines
    assert late.reason.endswith("up to 4 h late")
    assert (unknown.arrives_at, unknown.estimated) == (None, False)
    assert unknown.reason.endswith("not known")
    assert plan_of([need("N1", needed_by=None)], {"arrives_at": None, "origin": nowhere}).coverage == [(10, 4, 4, 0)]


def test_an_arrival_that_nobody_stated_is_estimated_and_marked() -> None:
    offer = example(PledgeOffered, arrives_at=None)
    adana = Place(name="Adana", country="TR", lat=36.98, lon=35.28)
    distance_km = great_circle_km(40.47, 50.05, 36.98, 35.28)
    assert distance_km == pytest.approx(1335, abs=10)
    there = arrival(offer, adana)
    assert there.estimated
    assert there.depart_by == offer.ready_at
    assert there.arrives_at is not None
    hours = (there.arrives_at - offer.ready_at) / HOUR
    assert hours == pytest.approx(3 + distance_km * 1.1 / 600, abs=1 / 60)
    by_land = arrival(example(PledgeOffered, arrives_at=None, mode_of_transport="road"), adana)
    assert by_land.arrives_at is not None
    assert by_land.arrives_at > there.arrives_at
    never = arrival(example(PledgeOffered, arrives_at=None, ready_at="9999-12-31T23:00:00Z"), adana)
    assert never.arrives_at is None


class Proven:
    """Another allocator: all to whom it may, in the order given, and proud of it."""

    def allocate(self, demands: Sequence[Demand], supplies: Sequence[Supply]) -> Allocation:
        lacking = {demand.need_id: demand.quantity for demand in demands}
        shares = []
        for supply in supplies:
            need_id = next(iter(supply.arrivals))
            if quantity := min(supply.quantity, lacking.get(need_id, 0)):
                lacking[need_id] -= quantity
                shares.append(Share(supply.pledge_id, need_id, quantity, "In the order of the offers"))
        return Allocation(shares, optimality_gap=0.25)


class Generous:
    """An allocator that breaks the seam's promise."""

    def allocate(self, demands: Sequence[Demand], supplies: Sequence[Supply]) -> Allocation:
        return Allocation([Share(s.pledge_id, "N1", s.quantity + 1, "") for s in supplies], optimality_gap=0.0)


def test_another_allocator_takes_the_seam() -> None:
    lane = Lane(Proven())
    lane.read(RequestRaised, needs=[need(quantity=5)])
    lane.read(BallotOpened, **ballot("N1"))
    for pledge_id, arrives_at in {"AZ-1": "2023-02-07T00:00:00Z", "AZ-2": "2023-02-06T08:00:00Z"}.items():
        lane.submit(PledgeOffered, pledge_id=pledge_id, arrives_at=arrives_at)
        lane.submit(PledgeAccepted, pledge_id=pledge_id)
    lane.read(ConsensusReached)
    assert sorted(lane.lines) == [("AZ-1.1", 4), ("AZ-2.1", 1)]
    assert lane.stated()[-1].optimality_gap == 0.25
    lane.submit(PledgeWithdrawn)
    assert lane.lines == [("AZ-2.1", 4)]


def test_an_allocator_that_gives_too_much_is_a_bug_and_states_nothing() -> None:
    lane = Lane(Generous())
    lane.read(RequestRaised)
    lane.submit(PledgeOffered)
    with pytest.raises(AssertionError, match="allocator"):
        lane.submit(PledgeAccepted)


# --- properties ---------------------------------------------------------------------------------------------

NEEDS = [need("N1", quantity=3), need("N2", quantity=2, priority=2, capability="HUSAR", substitutes=[])]
OFFERS: dict[str, dict[str, Any]] = {
    "AZ-1": {"answers": ["N1"]},
    "AZ-2": {"answers": [], "divisible": False, "quantity": 2, "arrives_at": "2023-02-06T09:00:00Z"},
    "KZ-1": {"answers": [], "arrives_at": None, "quantity": 3},
    "UZ-1": {"answers": ["N2"], "channel": "bilateral", "quantity": 2},
}

Act = Callable[[Lane], object]


def _act(model: type[Model], **changes: Any) -> Act:
    return lambda lane: lane.submit(model, **changes)


def _offer(pledge_id: str) -> Act:
    return _act(PledgeOffered, pledge_id=pledge_id, pledging_state=pledge_id[:2], **OFFERS[pledge_id])


def _answer(pledge_id: str, quantity: int) -> Act:
    return _act(PledgeAccepted, pledge_id=pledge_id, quantity=quantity)


pledge_ids = st.sampled_from(sorted(OFFERS))
quantities = st.sampled_from([1, 1, 2, 2, 3, 5])
reports = st.builds(
    lambda model, p, q, line: _act(model, pledge_id=p, quantity=q, line_id=line and f"{p}.{line}"),
    st.sampled_from([ResourceDeparted, ResourceDeparted, ResourceCommitted, ResourceArrived, ResourceReleased]),
    pledge_ids,
    quantities,
    st.sampled_from([None, None, 1, 2]),
)
acts = st.one_of(
    reports,
    reports,
    st.builds(_answer, pledge_ids, quantities),
    st.builds(_answer, pledge_ids, quantities),
    st.builds(lambda p: _act(PledgeDeclined, pledge_id=p), pledge_ids),
    st.builds(lambda p: _act(PledgeWithdrawn, pledge_id=p), pledge_ids),
)
REQUESTS: list[Act] = [
    lambda lane: lane.read(RequestRaised, needs=NEEDS),
    lambda lane: lane.read(RequestClosed),
]
DECISIONS: list[Act] = [
    lambda lane: lane.read(BallotOpened, **ballot("N1", name="b1")),
    lambda lane: lane.read(BallotOpened, **ballot("N2", name="b2")),
    lambda lane: lane.read(ConsensusReached, ballot_id=digest("b1"), decision_digest=digest("d1")),
    lambda lane: lane.read(ConsensusReached, ballot_id=digest("b2"), decision_digest=digest("d2")),
    lambda lane: lane.read(MandateEnded),
]


@st.composite
def stories(draw: st.DrawFn) -> Lane:
    """A request's life: pledges come and go while the decisions are read, early or late."""
    early = draw(st.sampled_from([0, 0, 1, 2, 3, 5]))
    late = DECISIONS[early : draw(st.integers(early, len(DECISIONS)))]
    submissions = [
        *map(_offer, OFFERS),
        *(_answer(p, 2) for p in OFFERS),
        *draw(st.lists(acts, min_size=5, max_size=25)),
    ]
    end = REQUESTS[1:] if draw(st.booleans()) else []
    lane = Lane()
    for act in [
        *DECISIONS[:early],
        REQUESTS[0],
        *_interleaved(draw, [late, submissions]),
        *end,
        *draw(last_acts),
    ]:
        try:
            act(lane)
        except Refused:
            continue
    return lane


last_acts = st.lists(acts, max_size=5)


def _interleaved(draw: st.DrawFn, streams: Sequence[Sequence[Any]]) -> list[Any]:
    """The streams in one order, each in its own."""
    heads = [list(stream) for stream in streams if stream]
    merged = []
    while heads:
        stream = draw(st.sampled_from(heads))
        merged.append(stream.pop(0))
        heads = [head for head in heads if head]
    return merged


@given(stories())
@settings(max_examples=300, deadline=None)
def test_no_line_beyond_what_was_accepted_and_nothing_accepted_beyond_what_was_offered(lane: Lane) -> None:
    state: State | None = None
    for fact in lane.facts:
        state = evolve(state, fact)
        for pledge in state.pledges.values():
            assert 0 <= pledge.accepted <= pledge.offer.quantity
            departed = pledge.reported("departed")
            assert departed <= pledge.accepted
            assert max(pledge.reported("arrived"), pledge.reported("released")) <= departed
        if isinstance(fact.data, Mobilization):
            _check_plan(state, fact.data)


def _check_plan(state: State, plan: Mobilization) -> None:
    lines = plan.lines
    assert len({line.line_id for line in lines}) == len(lines) == len({(e.pledge_id, e.need_id) for e in lines})
    for pledge_id, pledge in state.pledges.items():
        own = [line for line in lines if line.pledge_id == pledge_id]
        assert sum(line.quantity for line in own) <= pledge.accepted
        assert not own or pledge.offer.channel == "mechanism"
        assert pledge.offer.divisible or len(own) <= 1
    for covered in plan.coverage:
        mechanism = sum(line.quantity for line in lines if line.need_id == covered.need_id)
        assert covered.covered == mechanism + covered.bilateral <= covered.requested
        assert covered.on_time <= covered.covered


@given(stories())
@settings(max_examples=200, deadline=None)
def test_one_authorisation_and_then_revisions_that_change_something(lane: Lane) -> None:
    stated = lane.stated()
    assert [type(each) for each in stated[:1]] in ([], [MobilizationAuthorized])
    assert all(type(each) is MobilizationRevised for each in stated[1:])
    assert [each.revision for each in stated] == list(range(1, len(stated) + 1))
    assert len({(each.authorized_at, each.mobilization_id) for each in stated}) <= 1
    numbers = {(line.pledge_id, line.need_id): line.line_id for each in stated for line in each.lines}
    for before, after in pairwise(stated):
        unlike = {"revision"}
        assert before.model_dump(exclude=unlike) != after.model_dump(exclude=unlike)
        assert all(numbers[line.pledge_id, line.need_id] == line.line_id for line in after.lines)
    decided = any(isinstance(fact.data, ConsensusReached) for fact in lane.facts)
    known = any(isinstance(fact.data, RequestRaised) for fact in lane.facts)
    assert bool(stated) == (decided and known)


@given(stories(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_rebuild_in_any_order_of_the_writers_gives_the_same_state(lane: Lane, data: st.DataObject) -> None:
    writers: list[list[Fact]] = [[], [], []]
    for fact in lane.facts:
        name = type(fact.data).__name__
        requests, decisions = name.startswith("Request"), name.startswith(("Ballot", "Consensus", "Mandate"))
        writers[0 if requests else 1 if decisions else 2].append(fact)
    rebuilt: State | None = None
    for fact in data.draw(st.composite(_interleaved)(writers)):
        rebuilt = evolve(rebuilt, fact)
    assert rebuilt == lane.state


@given(stories())
@settings(max_examples=100, deadline=None)
def test_the_state_is_safe_through_json(lane: Lane) -> None:
    if lane.state is not None:
        assert State.model_validate_json(lane.state.model_dump_json()) == lane.state


@given(st.lists(st.builds(_answer, pledge_ids, quantities), max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_however_requests_and_decisions_interleave_the_mobilisation_is_the_same(
    answers: list[Act], data: st.DataObject
) -> None:
    # What states submit needs the request, so it follows it in one stream here; decisions come wherever they
    # come.
    streams = [
        [REQUESTS[0], *map(_offer, OFFERS), *answers, REQUESTS[1]],
        DECISIONS[: data.draw(st.integers(3, 5))],
    ]

    def play(acts: Sequence[Act]) -> dict[str, Any]:
        lane = Lane()
        for act in acts:
            try:
                act(lane)
            except Refused:
                continue
        assert type(lane.stated()[0]) is MobilizationAuthorized
        return lane.stated()[-1].model_dump(exclude={"revision"})

    assert play(data.draw(st.composite(_interleaved)(streams))) == play([*streams[0], *streams[1]])


@st.composite
def tables(draw: st.DrawFn, priorities: int, arrivals: int) -> tuple[list[Demand], list[Supply]]:
    """A few needs and divisible pledges, of so many priorities and times of arrival."""
    demands = [
        Demand(f"N{n}", draw(st.integers(1, priorities)), draw(st.integers(1, 3)), None)
        for n in range(draw(st.integers(1, 4)))
    ]
    supplies = []
    for n in range(draw(st.integers(1, 5))):
        at = T0 + HOUR * draw(st.integers(1, arrivals))
        fitting = draw(st.sets(st.sampled_from([demand.need_id for demand in demands]), min_size=1))
        supplies.append(Supply(f"P{n}", draw(st.integers(1, 3)), dict.fromkeys(sorted(fitting), at)))
    return demands, supplies


Profile = tuple[int, ...]
"""What is covered at each priority from each time of arrival, in that order: the greater the better."""


def _cells(demands: list[Demand], supplies: list[Supply]) -> dict[tuple[int, datetime | None], int]:
    times = {at for supply in supplies for at in supply.arrivals.values() if at}
    return dict.fromkeys(sorted(product({demand.priority for demand in demands}, times)), 0)


def _profile(demands: list[Demand], supplies: list[Supply], allocation: Allocation) -> Profile:
    cells = _cells(demands, supplies)
    priorities = {demand.need_id: demand.priority for demand in demands}
    arrivals = {supply.pledge_id: supply.arrivals for supply in supplies}
    for share in allocation.shares:
        cells[priorities[share.need_id], arrivals[share.pledge_id][share.need_id]] += share.quantity
    return tuple(cells.values())


def _best(demands: list[Demand], supplies: list[Supply]) -> Profile:
    """The best profile there is, by trying every distribution of every pledge."""
    index = {cell: n for n, cell in enumerate(_cells(demands, supplies))}

    @cache
    def best(first: int, lacking: tuple[int, ...]) -> Profile:
        if first == len(supplies):
            return (0,) * len(index)
        supply = supplies[first]
        most = [
            min(supply.quantity, lacks) if demand.need_id in supply.arrivals else 0
            for demand, lacks in zip(demands, lacking, strict=True)
        ]
        found = []
        for parts in product(*(range(each + 1) for each in most)):
            if sum(parts) <= supply.quantity:
                left = tuple(lacks - part for lacks, part in zip(lacking, parts, strict=True))
                profile = list(best(first + 1, left))
                for demand, part in zip(demands, parts, strict=True):
                    if part:
                        profile[index[demand.priority, supply.arrivals[demand.need_id]]] += part
                found.append(tuple(profile))
        return max(found)

    return best(0, tuple(demand.quantity for demand in demands))


@given(st.one_of(tables(priorities=1, arrivals=3), tables(priorities=3, arrivals=1)))
@settings(max_examples=400, deadline=None)
def test_at_equal_priority_or_time_the_plan_covers_as_much_as_can_be(
    table: tuple[list[Demand], list[Supply]],
) -> None:
    demands, supplies = table
    assert _profile(demands, supplies, FirstArrival().allocate(demands, supplies)) == _best(demands, supplies)


@given(tables(priorities=3, arrivals=3))
@settings(max_examples=200, deadline=None)
def test_the_first_priority_is_always_served_best(table: tuple[list[Demand], list[Supply]]) -> None:
    demands, supplies = table
    first = len({at for supply in supplies for at in supply.arrivals.values()})
    found = _profile(demands, supplies, FirstArrival().allocate(demands, supplies))
    assert found[:first] == _best(demands, supplies)[:first]


def test_a_thousand_pledges_do_not_delay_the_authorisation() -> None:
    """Counted, not timed: ConsensusReached asks the allocator for nothing, the plan is ready."""

    class Counting(FirstArrival):
        calls = 0

        def allocate(self, demands: Sequence[Demand], supplies: Sequence[Supply]) -> Allocation:
            Counting.calls += 1
            return super().allocate(demands, supplies)

    lane = Lane(Counting())
    lane.read(RequestRaised, needs=[need(quantity=500)])
    lane.read(BallotOpened, **ballot("N1"))
    for number in range(1000):
        lane.submit(PledgeOffered, pledge_id=f"AZ-{number}", quantity=1)
    for number in range(0, 1000, 100):
        lane.submit(PledgeAccepted, pledge_id=f"AZ-{number}", quantity=1)
    before = Counting.calls
    lane.read(ConsensusReached)
    assert Counting.calls == before
    assert len(lane.lines) == 10


def test_builders_make_a_record_of_every_type() -> None:
    key = Ed25519Key(bytes(32))
    public = PublicKey.from_pem(key.public_pem, key.algorithm)
    for kind in EVENTS.values():
        record: Incoming = incoming(example(kind.model), key=key)
        assert record.kind is kind
        assert record.event.type == kind.type
        verify(record.event, read_material(record.event), public)
        assert kind.signer != "state" or record.source.kind == "state"
    assert event(example(PledgeAccepted)).source.endswith("/states/TR")
