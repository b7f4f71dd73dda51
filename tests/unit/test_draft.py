"""A lane's transaction worked out in memory: deadlines, waiting, repetitions, positions, and forgetting."""

import copy
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis import parking
from chassis.admission import Record
from qalqan.envelope import Event, from_kafka
from qalqan.events import PledgeOffered
from qalqan.topics import INBOX_PLEDGES, REQUEST_TOPICS, REQUESTS
from tests.unit.builders import T0, example
from tests.unit.network import Network, event_of
from tests.unit.tray import IDS, OPEN_FOR, PARTITION, Inbox, TrayLane, told

NETWORK = Network()
A, B = IDS[:2]
SECOND = timedelta(seconds=1)
CLOSES = T0 + OPEN_FOR


@pytest.fixture
def lane() -> TrayLane:
    return TrayLane(NETWORK)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(NETWORK)


# --- deadlines ---------------------------------------------------------------------------------------------


def test_a_deadline_falls_just_before_the_record_that_brings_its_time(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0))
    lane.handle(inbox.offered(A, "AZ-1", T0 + SECOND))
    assert told(lane.handle(inbox.offered(A, "AZ-2", CLOSES - timedelta(milliseconds=1)))) == ["PledgeOffered AZ-2"]
    assert told(lane.handle(inbox.offered(A, "AZ-3", CLOSES))) == [
        "PledgeAccepted AZ-1",
        "PledgeAccepted AZ-2",
        "SubmissionRejected too-late",
    ]


def test_so_does_it_within_one_transaction(lane: TrayLane, inbox: Inbox) -> None:
    batch = (
        inbox.raised(A, T0),
        inbox.offered(A, "AZ-1", T0 + SECOND),
        inbox.offered(A, "AZ-2", CLOSES + SECOND),
    )
    assert told(lane.handle(*batch)) == [
        "PledgeOffered AZ-1",
        "PledgeAccepted AZ-1",
        "SubmissionRejected too-late",
    ]


def test_any_record_brings_the_time_also_anothers_and_a_forged_one(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0), inbox.raised(B, T0 + SECOND))
    lane.handle(inbox.offered(A, "AZ-1", T0 + SECOND), inbox.offered(B, "KZ-1", T0 + SECOND))
    forged = inbox.offer(B, "KZ-2")
    forged = replace(forged, data=forged.data + b" ")
    assert told(lane.handle(inbox.place(forged, CLOSES))) == [
        "PledgeAccepted AZ-1",
        "SubmissionRejected bad-signature",
    ]
    assert told(lane.handle(inbox.tick(CLOSES + SECOND))) == ["PledgeAccepted KZ-1"]


def test_deadlines_fall_oldest_first(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(B, T0 + SECOND), inbox.raised(A, T0))
    lane.handle(inbox.offered(B, "KZ-1", T0 + 2 * SECOND), inbox.offered(A, "AZ-1", T0 + 2 * SECOND))
    assert told(lane.handle(inbox.tick(CLOSES + 60 * SECOND))) == [
        "PledgeAccepted AZ-1",
        "PledgeAccepted KZ-1",
    ]


def test_a_tick_brings_the_time_and_a_repeated_one_does_nothing(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0), inbox.offered(A, "AZ-1", T0 + SECOND))
    assert told(lane.handle(inbox.tick(CLOSES))) == ["PledgeAccepted AZ-1"]
    before = lane.state(A)
    assert lane.handle(inbox.tick(CLOSES)) == []
    assert lane.handle(inbox.tick(CLOSES + SECOND), inbox.tick(CLOSES)) == []
    assert lane.state(A) == before


def test_a_tick_that_comes_early_moves_nothing(lane: TrayLane, inbox: Inbox) -> None:
    """Its own word on the time is not the log's."""
    lane.handle(inbox.raised(A, T0), inbox.offered(A, "AZ-1", T0 + SECOND))
    early = inbox.tick(CLOSES)
    early.timestamp -= 1
    assert lane.handle(early) == []


def test_log_time_never_goes_back(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0), inbox.tick(CLOSES))
    assert told(lane.handle(inbox.offered(A, "AZ-1", T0 + SECOND))) == ["SubmissionRejected too-late"]


# --- waiting -----------------------------------------------------------------------------------------------


def test_an_offer_waits_for_its_request_and_what_follows_queues_behind(lane: TrayLane, inbox: Inbox) -> None:
    at = T0 + SECOND
    assert lane.handle(inbox.offered(A, "AZ-1", T0), inbox.withdrawn(A, "AZ-1", T0)) == []
    assert lane.handle(inbox.offered(A, "KZ-1", at)) == []
    assert told(lane.handle(inbox.withdrawn(A, "UZ-1", at))) == ["SubmissionRejected unknown-request"]
    lane.restart()
    assert told(lane.handle(inbox.raised(A, at))) == [
        "PledgeOffered AZ-1",
        "PledgeWithdrawn AZ-1",
        "PledgeOffered KZ-1",
    ]
    assert not lane.committed.parked


def test_what_still_cannot_be_handled_keeps_its_place_and_its_followers(lane: TrayLane, inbox: Inbox) -> None:
    """A fact comes, but not yet the one that is waited for."""
    lane.handle(inbox.offered(A, "AZ-1", T0), inbox.withdrawn(A, "AZ-1", T0))
    assert lane.handle(inbox.ballot(A, T0)) == []
    assert len(lane.waiting) == 2
    assert told(lane.handle(inbox.raised(A, T0))) == ["PledgeOffered AZ-1", "PledgeWithdrawn AZ-1"]


def test_what_waited_stands_with_the_time_it_was_taken(lane: TrayLane, inbox: Inbox) -> None:
    taken = inbox.offered(A, "AZ-1", T0)
    lane.handle(taken)
    (out,) = lane.handle(inbox.raised(A, T0 + 30 * SECOND))
    event = event_of(out)
    assert event.data == taken.value
    assert event.extensions["recordedtime"] == "2023-02-06T03:00:00Z"
    assert event.extensions["position"] == "0000000001"


def test_waiting_and_its_end_in_one_transaction(lane: TrayLane, inbox: Inbox) -> None:
    batch = inbox.offered(A, "AZ-1", T0), inbox.raised(A, T0), inbox.offered(A, "KZ-1", T0)
    draft = lane.draft(batch)
    assert draft.transaction().parked == []
    assert told(lane.handle(*batch)) == ["PledgeOffered AZ-1", "PledgeOffered KZ-1"]


def test_what_has_waited_sixty_seconds_is_refused_and_what_queued_behind_too(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.offered(A, "AZ-1", T0), inbox.withdrawn(A, "AZ-1", T0 + 5 * SECOND))
    assert lane.handle(inbox.tick(T0 + 60 * SECOND - timedelta(milliseconds=1))) == []
    lane.restart()
    assert told(lane.handle(inbox.tick(T0 + 60 * SECOND))) == ["SubmissionRejected unknown-request"] * 2
    assert not lane.committed.parked
    assert lane.handle(inbox.raised(A, T0 + 70 * SECOND)) == []


def test_a_rejection_names_the_record_that_waited_and_brings_it(lane: TrayLane, inbox: Inbox) -> None:
    taken = inbox.offered(A, "AZ-1", T0)
    lane.handle(taken)
    (out,) = lane.handle(inbox.tick(T0 + 60 * SECOND))
    event = event_of(out)
    assert event.subject == f"inbox.pledges/{PARTITION}/{taken.offset}"
    assert b'"reason":"unknown-request"' in event.data


def test_requests_wait_apart(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.offered(A, "AZ-1", T0), inbox.offered(B, "AZ-1", T0))
    assert told(lane.handle(inbox.raised(A, T0))) == ["PledgeOffered AZ-1"]
    assert [parked.key for parked in lane.waiting] == [B]


@pytest.mark.parametrize(
    ("limit", "ids"),
    [("REQUEST_LIMIT", [A, A, A, A]), ("SOURCE_LIMIT", [A, B, A, B]), ("SOURCE_LIMIT_BYTES", [A, B, A, B])],
)
def test_not_everything_may_wait(
    lane: TrayLane, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, limit: str, ids: list[str]
) -> None:
    """The real limits are a thousand a request, ten thousand and 64 MiB a source: here three."""
    assert (parking.REQUEST_LIMIT, parking.SOURCE_LIMIT, parking.SOURCE_LIMIT_BYTES) == (1_000, 10_000, 64 * 2**20)
    lane.handle(inbox.offered(A, "AZ-9", T0))
    size = len(lane.waiting[0].record)
    lane.handle(inbox.tick(T0 + 60 * SECOND))
    monkeypatch.setattr(parking, limit, 3 * size + size // 2 if limit == "SOURCE_LIMIT_BYTES" else 3)
    batch = [inbox.offered(request_id, f"AZ-{n}", T0 + 60 * SECOND) for n, request_id in enumerate(ids)]
    (rejected,) = told(lane.handle(*batch))
    assert rejected == "SubmissionRejected unknown-request"
    assert len(lane.waiting) == 3


def test_a_flood_of_offers_for_unknown_requests_costs_each_the_same() -> None:
    """One lane's work holds up every lane of its process: what waits is not walked through for each that comes."""

    def calls(count: int) -> int:
        lane, inbox = TrayLane(NETWORK), Inbox(NETWORK)
        batch = [inbox.offered(f"TR-2023-F{n}", "AZ-1", T0) for n in range(count)]
        called = 0

        def counting(*_: object) -> None:
            nonlocal called
            called += 1

        sys.setprofile(counting)
        try:
            lane.handle(*batch)
        finally:
            sys.setprofile(None)
        assert len(lane.waiting) == count
        return called

    assert calls(400) < 12 * calls(50)


# --- identity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_a_repetition_is_silent(lane: TrayLane, inbox: Inbox, together: bool) -> None:
    """Also of what was refused, and of what still waits."""
    good, bad, early = inbox.offer(A, "AZ-1"), inbox.offer(A, "AZ-1"), inbox.offer(B, "AZ-1")
    first = [inbox.raised(A, T0), *(inbox.place(event, T0) for event in (good, bad, early))]
    again = [inbox.place(event, T0 + SECOND) for event in (good, bad, early)]
    if together:
        assert told(lane.handle(*first, *again)) == ["PledgeOffered AZ-1", "SubmissionRejected not-allowed"]
    else:
        assert told(lane.handle(*first)) == ["PledgeOffered AZ-1", "SubmissionRejected not-allowed"]
        assert lane.handle(*again) == []
    assert len(lane.waiting) == 1


@pytest.mark.parametrize("together", [True, False])
def test_another_core_under_the_same_id_is_a_duplicate(lane: TrayLane, inbox: Inbox, together: bool) -> None:
    first = inbox.place(inbox.offer(A, "AZ-1", "one"), T0)
    other = inbox.place(inbox.offer(A, "AZ-2", "one"), T0)
    of_another = inbox.place(inbox.offer(A, "KZ-1", "one"), T0)
    lane.handle(inbox.raised(A, T0))
    batches = [[first, other, of_another]] if together else [[first], [other], [of_another]]
    assert [word for batch in batches for word in told(lane.handle(*batch))] == [
        "PledgeOffered AZ-1",
        "SubmissionRejected duplicate-id",
        "PledgeOffered KZ-1",
    ]


def test_a_duplicate_id_comes_before_bad_data_and_burns_nothing(lane: TrayLane, inbox: Inbox) -> None:
    good = inbox.offer(A, "AZ-1", "one")
    of_kz = example(PledgeOffered, request_id=A, pledge_id="KZ-1", pledging_state="KZ")
    bad = NETWORK.event(of_kz, by="AZ", event_id="one")
    lane.handle(inbox.raised(A, T0))
    assert told(lane.handle(inbox.place(good, T0), inbox.place(bad, T0), inbox.place(good, T0))) == [
        "PledgeOffered AZ-1",
        "SubmissionRejected duplicate-id",
    ]


def test_a_forgery_burns_nobodys_id(lane: TrayLane, inbox: Inbox) -> None:
    event = inbox.offer(A, "AZ-1", "one")
    forged = replace(event, data=event.data + b" ")
    lane.handle(inbox.raised(A, T0))
    assert told(lane.handle(inbox.place(forged, T0), inbox.place(event, T0))) == [
        "SubmissionRejected bad-signature",
        "PledgeOffered AZ-1",
    ]


def test_a_fact_that_was_delivered_again_has_no_second_effect(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0))
    lane.handle(inbox.offered(A, "AZ-1", T0))
    lane.handle(inbox.raised(A, T0 + SECOND, position=1))
    state = lane.state(A)
    assert state is not None
    assert (state.closes_at, state.lying) == (CLOSES, {"AZ-1": 4})


def test_what_was_read_before_is_passed_over(lane: TrayLane, inbox: Inbox) -> None:
    """PostgreSQL's offsets rule: a poll that overlaps what was handled does nothing."""
    batch = [inbox.raised(A, T0), inbox.offered(A, "AZ-1", T0)]
    lane.handle(*batch)
    step = lane.committed.step
    draft = lane.draft(batch)
    assert draft.next_offsets == lane.committed.next_offsets
    assert draft.outgoing == []
    assert lane.committed.step == step


# --- the whole ---------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["raised", "offered", "offered", "withdrawn", "again", "other", "tick"]),
        st.sampled_from([A, B]),
        st.sampled_from(["AZ-1", "AZ-2", "KZ-1"]),
        st.integers(0, 40),
    ),
    max_size=25,
)


def history(plan: list[tuple[str, str, str, int]]) -> list[Record]:
    """A lane's records: requests, offers, withdrawals, repetitions, stolen ids, ticks, seconds apart."""
    inbox, now = Inbox(NETWORK), T0
    records: list[Record] = []
    sent: list[Event] = []
    raised: set[str] = set()
    for what, request_id, pledge_id, pause in plan:
        now += pause * SECOND
        if what == "raised":
            if request_id not in raised:
                raised.add(request_id)
                records.append(inbox.raised(request_id, now))
        elif what == "withdrawn":
            records.append(inbox.withdrawn(request_id, pledge_id, now))
        elif what == "again" and sent:
            records.append(inbox.place(sent[pause % len(sent)], now))
        elif what == "other" and sent:
            records.append(inbox.place(inbox.offer(request_id, "AZ-9", sent[pause % len(sent)].id), now))
        elif what == "tick":
            records.append(inbox.tick(now))
        else:
            event = inbox.offer(request_id, pledge_id)
            sent.append(event)
            records.append(inbox.place(event, now))
    return [*records, inbox.tick(now + 300 * SECOND)]


def standing(lane: TrayLane) -> list[tuple[str, bytes, str, dict[str, str], bytes]]:
    """What was published, but for the number of the transaction and the place in it."""
    return [
        (
            out.topic,
            out.key,
            event_of(out).id,
            {name: text for name, text in event_of(out).extensions.items() if name not in ("step", "ordinal")},
            out.value,
        )
        for out in lane.out
    ]


@settings(max_examples=80)
@given(steps, st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), min_size=30, max_size=30))
def test_batches_crashes_and_restarts_change_nothing_that_is_published(
    plan: list[tuple[str, str, str, int]], cuts: list[tuple[int, bool, bool]]
) -> None:
    """One transaction for each record, or any cut into transactions with drafts thrown away and memories
    lost."""
    records = history(plan)
    plain, other = TrayLane(NETWORK), TrayLane(NETWORK)
    for record in records:
        plain.handle(record)
    rest = list(records)
    for size, thrown_away, restarted in cuts:
        if thrown_away:
            other.draft(rest[:size]).transaction()
        if restarted:
            other.restart()
        other.handle(*rest[:size])
        rest = rest[size:]
    other.handle(*rest)
    assert standing(other) == standing(plain)
    assert [other.state(key) for key in (A, B)] == [plain.state(key) for key in (A, B)]
    assert other.committed.doc == plain.committed.doc
    assert other.waiting == plain.waiting == []


@settings(max_examples=60)
@given(steps)
def test_positions_have_no_gap_and_everything_is_answered_once(plan: list[tuple[str, str, str, int]]) -> None:
    records = history(plan)
    lane = TrayLane(NETWORK)
    lane.handle(*records)
    positions: dict[tuple[str, bytes], list[int]] = {}
    answered: list[tuple[str, str]] = []
    for out in lane.out:
        event = event_of(out)
        if out.topic in {topic.name for topic in REQUEST_TOPICS}:
            positions.setdefault((out.topic, out.key), []).append(int(event.extensions["position"]))
        if "recordedtime" in event.extensions:
            answered.append((event.source, str(event.subject) if out.topic == "rejections" else event.id))
    assert all(found == list(range(1, len(found) + 1)) for found in positions.values())
    assert len(answered) == len(set(answered))
    submissions = [from_kafka(r.key, r.headers, r.value) for r in records if r.topic == INBOX_PLEDGES.name]
    distinct = {(event.source, event.id, event.data) for event in submissions if event.id.startswith("e-")}
    # A repetition is silent, everything else is answered: a stolen id each time it comes.
    stolen_again = len(answered) - len(distinct)
    assert 0 <= stolen_again <= len(submissions) - len(distinct)


@settings(max_examples=40)
@given(steps, st.integers(0, 25))
def test_a_forgotten_draft_changes_nothing(plan: list[tuple[str, str, str, int]], taken: int) -> None:
    """And the next one of the same records is the same transaction."""
    records = history(plan)
    lane = TrayLane(NETWORK)
    lane.handle(*records[:taken])
    before = snapshot(lane)
    first = lane.draft(records[taken:]).transaction()
    assert snapshot(lane) == before
    assert lane.draft(records[taken:]).transaction() == first
    assert snapshot(lane) == before


def snapshot(lane: TrayLane) -> Any:
    """All that a draft could touch."""
    committed = lane.committed
    return copy.deepcopy(
        (
            committed.next_offsets,
            committed.step,
            committed.log_time,
            committed.doc,
            {key: (subject.state, subject.positions) for key, subject in committed.subjects.items()},
            committed.parked,
            lane.seen,
        )
    )


def test_the_lanes_own_document_goes_along(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0), inbox.raised(B, T0))
    lane.handle(*(inbox.offered(key, name, T0) for key in (A, B) for name in ("AZ-1", "KZ-1")))
    lane.handle(inbox.tick(CLOSES))
    assert lane.committed.doc == {"accepted": 4}
    assert set(lane.committed.subjects) == set(), "both trays have left the hot set"


def test_what_left_the_hot_set_is_loaded_again(lane: TrayLane, inbox: Inbox) -> None:
    lane.handle(inbox.raised(A, T0), inbox.offered(A, "AZ-1", T0), inbox.tick(CLOSES))
    assert told(lane.handle(inbox.withdrawn(A, "AZ-1", CLOSES + SECOND))) == ["SubmissionRejected unknown-pledge"]
    assert told(lane.handle(inbox.offered(A, "AZ-2", CLOSES + SECOND))) == ["SubmissionRejected too-late"]


def test_a_fact_repeated_at_the_next_place_takes_nobodys_place(lane: TrayLane, inbox: Inbox) -> None:
    """No signature covers `position`: a genuine event written again under another one must not push the next out."""
    raised = inbox.raised(A, T0)
    lane.handle(raised)
    event = from_kafka(raised.key, raised.headers, raised.value)
    again = replace(event, extensions={**event.extensions, "position": "0000000002"})
    lane.handle(inbox.place(again, T0, REQUESTS))
    assert lane.committed.subjects[A].positions[REQUESTS.name] == 1
