"""What doctor makes of what it sees: clocks, disks, lanes, keys."""

from datetime import timedelta

import pytest

from deploy.local.disk import ROOM_BYTES
from deploy.local.doctor import database, kafka, machine, services, trust
from qalqan.instants import format_instant
from qalqan.signing import Ed25519Key
from qalqan.sources import secretariat_source, service_source, state_source
from services.notify.domain.standing import LaneView, ServiceView
from tests.unit.builders import NETWORK, T0
from tests.unit.network import SERVICES, Network

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("newest", "fresh", "verdict", "seen"),
    [
        (NOW - 3600, [], "well", "the newest record is 1 h old"),
        (NOW + 30, [], "wrong", "30.0 s ahead"),
        (NOW - 3600, [NOW - 0.1], "well", "within 2 s"),
        (NOW - 3600, [NOW + 9], "wrong", "9.0 s ahead"),
        (NOW - 3600, [NOW - 61], "wrong", "60.0 s behind"),
        (None, [], "look", "nothing stands"),
    ],
)
def test_kafkas_clock(newest: float | None, fresh: list[float], verdict: str, seen: str) -> None:
    """Records that came between NOW - 1 and NOW say more than one that stood there."""
    finding = kafka.judged_clock(newest, fresh, NOW - 1, NOW)
    assert finding.verdict == verdict
    assert seen in finding.seen


def test_the_databases_clock() -> None:
    """What lay between question and answer is no difference."""
    assert database.clock(NOW + 5, NOW, NOW + 10).verdict == "well"
    assert "3.0 s ahead" in database.clock(NOW + 4, NOW, NOW + 1).seen
    assert "3.0 s behind" in database.clock(NOW - 3, NOW, NOW + 1).seen


def test_room_on_a_disk() -> None:
    assert machine.room("/", ROOM_BYTES - 1).verdict == "wrong"
    assert machine.room("/", 1 << 30).verdict == "look"
    assert machine.room("/", 1 << 40).verdict == "well"


def view(*lanes: LaneView, service: str = "pledge", **fields: object) -> ServiceView:
    """A replica with these lanes."""
    given = {"service": service, "address": "http://x", "answers": True, "ready": True, "outbox_age_s": 0.0}
    return ServiceView.model_validate({**given, "lanes": list(lanes), **fields})


def all_but(numbers: set[int], lag: int = 0, rate: float | None = 0.0) -> list[LaneView]:
    """Twelve lanes without these."""
    return [
        LaneView(partition=number, lag={"requests": lag, "decisions": 0}, rate_per_s=rate)
        for number in range(12)
        if number not in numbers
    ]


def test_lanes_that_nobody_has() -> None:
    """Over all replicas of a service together."""
    halves = [view(*all_but(set(range(6)))), view(*all_but(set(range(6, 12))))]
    assert services.lanes(halves, halves)[0].verdict == "well"
    [finding] = services.lanes(halves[:1], halves[:1])
    assert (finding.verdict, finding.seen) == ("wrong", "nobody has lanes 0, 1, 2, 3, 4, 5")
    one = view(LaneView(partition=0, lag={}, rate_per_s=0), service="secretariat")
    assert services.lanes([one], [one])[0].verdict == "well"
    assert services.lanes([], [view(answers=False)]) == []


def test_a_lane_that_stands_still_and_one_that_is_at_it() -> None:
    """Behind at both looks and not moved; behind and moving; behind only now."""
    still = [view(*all_but({3}), LaneView(partition=3, lag={"requests": 7}, rate_per_s=0.0))]
    [finding] = services.lanes(still, still)
    assert (finding.verdict, finding.seen) == ("wrong", "no progress in lane 3, with 7 records to handle")
    moving = [view(*all_but(set(), lag=5, rate=2.5))]
    assert services.lanes(moving, moving)[0].verdict == "look"
    assert services.lanes([view(*all_but(set()))], still)[0].verdict == "look"


def test_an_outbox_that_does_not_get_out() -> None:
    assert services.outboxes([view(outbox_age_s=9.0)])[0].verdict == "well"
    [finding] = services.outboxes([view(), view(service="request", outbox_age_s=11.0)])
    assert (finding.verdict, finding.seen) == ("wrong", "not published: request: since 11 s")
    assert services.outboxes([view(answers=False, outbox_age_s=None)]) == []


def seen_of_keys(network: Network) -> list[tuple[str, str]]:
    """What is said of keys, at T0."""
    found = trust.judged(network.registry, T0)
    return [(finding.verdict, f"{finding.what}: {finding.seen}") for finding in found if finding.what == "keys"]


def test_keys_that_end() -> None:
    """Soon, or already; unless their holder has another of the same scopes that goes on."""
    network = Network()
    nothing = [("well", "keys: none ends within 30 days")]
    assert seen_of_keys(network) == nothing
    soon, ended = format_instant(T0 + timedelta(days=10)), format_instant(T0 - timedelta(days=10))
    kazakhstan = state_source(NETWORK, "KZ")
    network.register_key(kazakhstan, Ed25519Key.generate(), valid_until=soon)
    assert seen_of_keys(network) == nothing
    turkmenistan, northern_cyprus = state_source(NETWORK, "TM"), state_source(NETWORK, "TRNC")
    network.register_key(turkmenistan, scopes=["pledge"], valid_until=soon)
    network.register_key(turkmenistan, Ed25519Key.generate(), scopes=["track"])
    network.register_key(northern_cyprus, valid_until=ended)
    first, second = seen_of_keys(network)
    assert (first[0], second[0]) == ("look", "wrong")
    assert f"of states/TM, until {soon}" in first[1]
    assert f"of states/TRNC, until {ended}" in second[1]


def test_a_service_without_a_valid_key() -> None:
    network = Network(empty=True)
    network.register_key(secretariat_source(NETWORK))
    for service in SERVICES:
        ended = format_instant(T0 - timedelta(days=1)) if service == "pledge" else None
        network.register_key(service_source(NETWORK, service), valid_until=ended)
    found = [finding.what for finding in trust.judged(network.registry, T0) if finding.verdict == "wrong"]
    assert found == ["members and keys", "key of pledge", "keys"]
