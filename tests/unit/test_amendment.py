"""Requests that are anticipated and amended, pledges that are revised: each house's part (CONTRACT "RequestRaised")."""

from datetime import timedelta
from typing import Any

import pytest

from chassis.facts import NotYet, Refused
from qalqan import topics
from qalqan.certificate import verify_event
from qalqan.events import (
    BallotOpened,
    BallotRecord,
    BallotSuperseded,
    BallotWithdrawn,
    ConsensusBlocked,
    ConsensusReached,
    MandateEnded,
    MobilizationAuthorized,
    MobilizationRevised,
    PledgeAccepted,
    PledgeOffered,
    PledgeRevised,
    PledgeWithdrawn,
    RequestAmended,
    RequestAnticipated,
    RequestCancelled,
    RequestClosed,
    RequestRaised,
    ResourceDeparted,
)
from qalqan.fields import Model
from services.request import domain as request
from tests.unit.builders import HOUR, T0, digest, example, incoming, need
from tests.unit.hearing import Hearing
from tests.unit.network import Network
from tests.unit.test_pledge_domain import Lane

MINUTE = timedelta(minutes=1)


def names(facts: list[Model]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


# --- the register of requests ----------------------------------------------------------------------------------------


def after(*models: type[Model], **changes: Any) -> request.Request | None:
    state: request.Request | None = None
    for model in models:
        for fact in request.decide(state, incoming(example(model, **changes)), T0):
            state = request.evolve(state, fact)
    return state


def refusal(state: request.Request | None, model: type[Model], **changes: Any) -> str:
    with pytest.raises(Refused) as caught:
        request.decide(state, incoming(example(model, **changes)), T0)
    return caught.value.reason


def test_an_anticipated_request_is_raised_once() -> None:
    state = after(RequestAnticipated, RequestRaised)
    assert state is not None
    assert (state.status, state.revision) == ("open", 1)
    assert refusal(state, RequestRaised) == refusal(state, RequestAnticipated) == "duplicate-request"
    assert refusal(after(RequestAnticipated), RequestAnticipated) == "duplicate-request"
    assert refusal(after(RequestAnticipated), RequestRaised, mode="test") == "not-allowed"


def test_revisions_of_a_request_count_up_by_one() -> None:
    state = after(RequestRaised, RequestAmended)
    assert refusal(None, RequestAmended) == "unknown-request"
    assert refusal(after(RequestAnticipated), RequestAmended) == "not-allowed"
    assert refusal(state, RequestAmended, revision=2) == "stale"
    assert refusal(state, RequestAmended, revision=4) == "not-allowed"
    assert refusal(state, RequestAmended, revision=3, mode="test") == "not-allowed"
    assert refusal(after(RequestRaised, RequestClosed), RequestAmended) == "request-closed"


# --- ballots ---------------------------------------------------------------------------------------------------------


def amended(hearing: Hearing, at: Any, revision: int = 2, **changes: Any) -> list[Model]:
    return hearing._read(example(RequestAmended, revision=revision, **changes), at, at)


def test_an_amendment_supersedes_the_open_ballot_and_opens_another() -> None:
    hearing = Hearing(Network())
    hearing.raised()
    first = hearing.ballot_id
    hearing.votes("KZ", at=T0 + MINUTE)
    closing, opened = amended(hearing, T0 + 2 * MINUTE, needs=[need("N1"), need("N2")])
    assert isinstance(closing, BallotSuperseded)
    assert isinstance(opened, BallotOpened)
    assert closing.certificate["cause"]["type"] == "qalqan.RequestAmended.v1"
    assert verify_event(hearing.closing_event, hearing.network.root) == []
    assert (opened.ballot.revision, opened.ballot.items) == (2, ["N1", "N2"])
    with pytest.raises(Refused, match="too-late"):
        hearing.votes("AZ", at=T0 + 3 * MINUTE, ballot_id=first)
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + 4 * MINUTE)
    reached = hearing.closings[-1]
    assert isinstance(reached, ConsensusReached)
    assert (reached.revision, reached.certificate["serial"]) == (2, 2)
    assert reached.certificate["request"]["type"] == "qalqan.RequestAmended.v1"
    assert [verify_event(e, hearing.network.root) for e in hearing.topics_written if b"certificate" in e.data] == [
        [],
        [],
    ]
    assert hearing.rebuilt() == hearing.state


def test_a_decided_request_may_be_amended_and_its_end_ends_ballot_and_mandate() -> None:
    hearing = Hearing(Network())
    hearing.raised()
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + MINUTE)
    assert names(amended(hearing, T0 + HOUR)) == ["BallotOpened"]
    withdrawn, ended = hearing.cancelled(T0 + 2 * HOUR)
    assert isinstance(withdrawn, BallotWithdrawn)
    assert isinstance(ended, MandateEnded)


def test_a_ballot_on_an_amendment_that_does_not_reach_ends_the_mandate() -> None:
    hearing = Hearing(Network())
    hearing.raised()
    for state in ("AZ", "KG", "KZ", "UZ"):
        hearing.votes(state, at=T0 + MINUTE)
    amended(hearing, T0 + HOUR)
    for state in ("AZ", "KG", "KZ"):
        hearing.votes(state, at=T0 + HOUR)
    (_, blocked) = hearing.votes("UZ", "object", at=T0 + HOUR)
    assert isinstance(blocked, ConsensusBlocked)
    assert names(hearing.cancelled(T0 + 2 * HOUR)) == []


def test_an_amendment_of_an_affected_state_alone_is_decided_at_once_and_the_chain_goes_on() -> None:
    hearing = Hearing(Network(members=("TR",)))
    hearing.raised()
    assert names(amended(hearing, T0 + MINUTE)) == ["BallotOpened", "ConsensusReached"]
    assert [closed.certificate["serial"] for closed in hearing.closings] == [1, 2]


def test_an_anticipated_request_has_no_ballot_until_it_is_raised() -> None:
    hearing = Hearing(Network())
    record = hearing.network.incoming(example(RequestAnticipated), at=T0, topic=topics.REQUESTS)
    hearing._read(record.data, T0, T0)
    with pytest.raises(Refused, match="unknown-ballot"):
        hearing.votes("KZ", at=T0)
    assert names(hearing.raised(T0 + MINUTE)) == ["BallotOpened"]
    assert hearing.rebuilt() == hearing.state


# --- pledges and plans -----------------------------------------------------------------------------------------------


def ballot(revision: int, *items: str, name: str) -> dict[str, Any]:
    record = example(BallotOpened).ballot.model_dump(mode="json")
    return {
        "ballot_id": digest(name),
        "ballot": BallotRecord.model_validate({**record, "revision": revision, "items": list(items)}),
    }


def closing(revision: int, name: str) -> dict[str, Any]:
    return {"ballot_id": digest(name), "revision": revision, "decision_digest": digest(f"decision {name}")}


def decided_lane() -> Lane:
    """AZ's four teams, for whatever need, are accepted and authorised for N1 of revision 1."""
    lane = Lane()
    lane.read(RequestRaised)
    lane.read(BallotOpened, **ballot(1, "N1", name="b1"))
    lane.submit(PledgeOffered, answers=[])
    lane.submit(PledgeAccepted)
    assert names(lane.read(ConsensusReached, **closing(1, "b1"))) == ["MobilizationAuthorized"]
    return lane


def test_offers_attach_to_an_anticipated_request_and_the_raised_one_takes_them_along() -> None:
    lane = Lane()
    lane.read(RequestAnticipated)
    with pytest.raises(NotYet, match="AZ-1"):  # it answers a need that nobody has named yet
        lane.submit(PledgeOffered)
    lane.submit(PledgeOffered, answers=[])
    lane.submit(PledgeAccepted)
    lane.read(RequestRaised)
    lane.read(BallotOpened, **ballot(1, "N1", name="b1"))
    (authorized,) = lane.read(ConsensusReached, **closing(1, "b1"))
    assert isinstance(authorized, MobilizationAuthorized)
    assert lane.lines == [("AZ-1.1", 4)]


def test_a_revision_voids_the_acceptance_and_is_accepted_anew() -> None:
    lane = decided_lane()
    assert names(lane.submit(PledgeRevised)) == ["PledgeRevised", "MobilizationRevised"]
    assert lane.lines == []
    assert lane.refused(PledgeAccepted, pledge_revision=1)[0] == "stale"
    assert lane.refused(PledgeAccepted, pledge_revision=2, quantity=4)[0] == "over-accepted"
    lane.submit(PledgeAccepted, pledge_revision=2, quantity=2)
    assert lane.lines == [("AZ-1.1", 2)]
    assert lane.refused(PledgeRevised, revision=2)[0] == "stale"
    assert lane.refused(PledgeRevised, revision=4)[0] == "not-allowed"
    assert lane.refused(PledgeRevised, revision=3, by="KZ")[0] == "not-allowed"
    lane.submit(ResourceDeparted)
    assert lane.refused(PledgeRevised, revision=3)[0] == "not-allowed"


def test_a_revision_is_of_a_pledge_that_lives() -> None:
    lane = Lane()
    lane.read(RequestRaised, acceptance="automatic")
    assert lane.refused(PledgeRevised)[0] == "unknown-pledge"
    lane.submit(PledgeOffered)
    (_, accepted) = lane.submit(PledgeRevised)
    assert isinstance(accepted, PledgeAccepted)
    assert (accepted.pledge_revision, accepted.quantity, accepted.by) == (2, 2, "policy")
    lane.submit(PledgeWithdrawn)
    assert lane.refused(PledgeRevised, revision=3)[0] == "not-allowed"
    lane.read(RequestCancelled)
    assert lane.refused(PledgeRevised, revision=3)[0] == "request-closed"


def test_an_amendment_leaves_the_mobilisation_until_its_ballot_closes() -> None:
    lane = decided_lane()
    lane.read(RequestAmended, needs=[need("N2")])
    assert lane.read(BallotOpened, **ballot(2, "N2", name="b2")) == []
    assert lane.read(BallotSuperseded, **closing(2, "b2")) == []
    lane.read(RequestAmended, revision=3, needs=[need("N3")])
    lane.read(BallotOpened, **ballot(3, "N3", name="b3"))
    (revised,) = lane.read(ConsensusReached, **closing(3, "b3"))
    assert isinstance(revised, MobilizationRevised)
    assert revised.decisions == [digest("decision b3")]
    assert [(line.need_id, line.quantity) for line in revised.lines] == [("N3", 4)]


def test_an_amendment_that_is_blocked_empties_the_mobilisation_but_for_what_has_departed() -> None:
    lane = decided_lane()
    lane.submit(ResourceDeparted, quantity=1, line_id="AZ-1.1")
    lane.read(RequestAmended, needs=[need("N1", quantity=20)])
    lane.read(BallotOpened, **ballot(2, "N1", name="b2"))
    (revised,) = lane.read(ConsensusBlocked, **closing(2, "b2"))
    assert isinstance(revised, MobilizationRevised)
    assert revised.decisions == []
    assert lane.lines == [("AZ-1.1", 1)]
    lane.read(RequestAmended, revision=3, needs=[need("N1", quantity=20)])
    lane.read(BallotOpened, **ballot(3, "N1", name="b3"))
    lane.read(ConsensusReached, **closing(3, "b3"))
    assert lane.lines == [("AZ-1.1", 4)]


def test_the_ballot_of_a_revision_may_be_read_before_its_content() -> None:
    """The two topics are read independently."""
    lane = decided_lane()
    lane.read(BallotOpened, **ballot(2, "N2", name="b2"))
    lane.submit(PledgeOffered, pledge_id="KZ-1", pledging_state="KZ")
    assert lane.read(ConsensusReached, **closing(2, "b2")) == []
    (revised,) = lane.read(RequestAmended, needs=[need("N2")])
    assert isinstance(revised, MobilizationRevised)
    assert [(line.need_id, line.quantity) for line in revised.lines] == [("N2", 4)]
