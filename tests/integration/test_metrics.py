"""`GET /metrics`: what a service tells Prometheus is what has happened, and how it stands."""

import asyncio
from collections.abc import Callable

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.roles import SERVICES
from qalqan import topics
from tests.conftest import pledge_data
from tests.integration.stranger import PATIENCE_S, Stranger, raw

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def told(stranger: Stranger, service: str) -> Samples:
    """Every sample of a service by name and labels, read as Prometheus reads it, without a token."""
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        answer = await http.get(f"{stranger.run.http[service]}/metrics")
    answer.raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


async def soon(stranger: Stranger, service: str, holds: Callable[[Samples], bool]) -> Samples:
    """The samples, once something holds of them."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await told(stranger, service)):  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.1)
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """A sample's value; 0: nothing of that has happened yet."""
    return samples.get((f"qalqan_{name}", frozenset(labels.items())), 0.0)


async def test_a_line_is_counted_by_each_service(stranger: Stranger) -> None:
    """A request, a pledge and a ballot, one refused vote: each is counted once, where it belongs."""
    before = {service: await told(stranger, service) for service in SERVICES}

    def more(service: str, samples: Samples, name: str, **labels: str) -> float:
        return value(samples, name, **labels) - value(before[service], name, **labels)

    request = await stranger.raised()
    await stranger.offered(request)
    for state in ("AZ", "KG"):
        vote = stranger.signed("VoteCast", await stranger.vote_data(request, state), state)
        await stranger.admit(vote, topics.INBOX_VOTES)
    forged = stranger.signed("VoteCast", await stranger.vote_data(request, "KZ"), "KZ", stranger.state_key("UZ"))
    await stranger.rejection(await stranger.put(raw(forged, topics.INBOX_VOTES)))

    def consensus_has(now: Samples) -> bool:
        return (
            more("consensus", now, "published_events_total", topic="votes") >= 2
            and more("consensus", now, "published_events_total", topic="decisions") >= 1
            and more("consensus", now, "rejected_submissions_total", reason="foreign-source") == 1
            and more("consensus", now, "effect_seconds_count", topic="inbox.votes") >= 3
            and value(now, "open_ballots") >= 1
            and value(now, "oldest_ballot_age_seconds") > 0
        )

    await soon(stranger, "consensus", consensus_has)
    await soon(stranger, "request", lambda now: more("request", now, "published_events_total", topic="requests") >= 1)
    await soon(stranger, "request", lambda now: value(now, "open_requests") >= 1)
    await soon(stranger, "pledge", lambda now: value(now, "offers_unanswered") >= 1)
    await soon(stranger, "notify", lambda now: more("notify", now, "stream_events") >= 5)


async def test_what_waits_is_seen(stranger: Stranger) -> None:
    """A pledge that is early waits for its request, and is seen to, until that comes."""
    request = stranger.new_request()
    lane = str(topics.partition_of(request["request_id"]))
    waiting = value(await told(stranger, "pledge"), "parked_submissions", partition=lane)
    early = stranger.signed("PledgeOffered", pledge_data(request["request_id"]), "AZ")
    await stranger.put(raw(early, topics.INBOX_PLEDGES))
    await soon(stranger, "pledge", lambda now: value(now, "parked_submissions", partition=lane) == waiting + 1)
    await stranger.admit(stranger.signed("RequestRaised", request), topics.INBOX_REQUESTS)
    await soon(stranger, "pledge", lambda now: value(now, "parked_submissions", partition=lane) == waiting)


@pytest.mark.parametrize("service", SERVICES)
async def test_nothing_is_behind_at_rest(stranger: Stranger, service: str) -> None:
    """All lanes are owned, all is read, all is out."""

    def at_rest(now: Samples) -> bool:
        lag = [value for (name, _), value in now.items() if name == "qalqan_lag_records"]
        unsent = [value for (name, _), value in now.items() if name == "qalqan_outbox_age_seconds"]
        return value(now, "lanes") == len(unsent) > 0 and bool(lag) and not any(lag) and not any(unsent)

    await soon(stranger, service, at_rest)
