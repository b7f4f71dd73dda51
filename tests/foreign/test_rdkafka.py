"""A national system on librdkafka: admitted with Java's partitioner, answered where its own default differs."""

import os
from typing import Any

from deploy.local.stack import Stack
from tests.conftest import request_data
from tests.foreign import rdkafka
from tests.foreign.contract import Party


def request(number: int) -> dict[str, Any]:
    """A request by Türkiye under an id of its own."""
    return request_data(f"TR-2023-rd-{os.getpid()}-{number}")


def outcome(party: Party, public: str, request_id: str, place: str) -> tuple[str, Any]:
    """What stands on the public topic for the request, or why its event at this place was refused."""
    return rdkafka.first(
        party,
        [public, "rejections"],
        lambda attributes, _: (
            attributes["subject"] == place
            or (attributes["subject"] == request_id and attributes["source"].endswith(f"/states/{party.state}"))
        ),
    )


def test_it_raises_reads_the_ballot_and_votes(system: Stack) -> None:
    """TR raises, KZ reads BallotOpened and approves, and its vote stands on `votes`."""
    turkiye, kazakhstan = (Party.of(system.home / "run.json", state) for state in ("TR", "KZ"))
    data = request(0)
    rdkafka.send(turkiye, "inbox.requests", "RequestRaised", data)
    _, opened = rdkafka.first(kazakhstan, ["decisions"], lambda it, _: it["subject"] == data["request_id"])
    vote = {
        "request_id": data["request_id"],
        "ballot_id": opened["ballot_id"],
        "round": opened["ballot"]["round"],
        "state": "KZ",
        "sequence": 1,
        "position": "constructive-abstain",
        "declaration": "Қазақстан шешімді қабылдайды",
    }
    place = rdkafka.send(kazakhstan, "inbox.votes", "VoteCast", vote)
    assert outcome(kazakhstan, "votes", data["request_id"], place) == ("votes", vote)


def test_librdkafkas_default_partitioner_is_answered_where_it_differs(system: Stack) -> None:
    """CRC32 puts most keys elsewhere: each of those is `wrong-partition`, and the others are admitted."""
    turkiye = Party.of(system.home / "run.json", "TR")
    seen = set()
    for number in range(1, 7):
        data = request(number)
        place = rdkafka.send(turkiye, "inbox.requests", "RequestRaised", data, partitioner=None)
        topic, said = outcome(turkiye, "requests", data["request_id"], place)
        if topic == "requests":
            assert place.split("/")[1] == partition_by_murmur2(turkiye, data)
        else:
            assert said["reason"] == "wrong-partition"
            assert place.split("/")[1] != partition_by_murmur2(turkiye, data)
        seen.add(topic)
    assert "rejections" in seen


def partition_by_murmur2(party: Party, data: dict[str, Any]) -> str:
    """Where librdkafka itself puts the key, told to do as Java does (the record is a repetition, or a late one)."""
    return rdkafka.send(party, "inbox.requests", "RequestRaised", data).split("/")[1]
