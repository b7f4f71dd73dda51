"""A replica of a service: asked over HTTP, as Prometheus asks it (`GET /health`, `GET /metrics`)."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from services.notify.domain.standing import Counted, LaneView, ServiceView, effects, rate

_PATIENCE_S = 0.7
_WINDOW_S = 15.0
"""Rates and the quantiles of `lately` are of so long, once it was watched for that long."""

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


class Replica:
    """One address, and what it told when it was asked before: rates are differences."""

    def __init__(self, service: str, address: str, patience_s: float = _PATIENCE_S) -> None:
        self._service = service
        self._address = address
        self._patience_s = patience_s
        self._http = httpx2.AsyncClient(base_url=address, timeout=patience_s, trust_env=False)
        self._before: deque[Counted] = deque()

    async def look(self) -> ServiceView:
        """How it stands now. It is given little time: one that is frozen takes its connections and says nothing."""
        try:
            async with asyncio.timeout(self._patience_s):
                health, metrics = await asyncio.gather(self._http.get("/health"), self._http.get("/metrics"))
            metrics.raise_for_status()
            ready = health.status_code == 200
            return self._view(samples_of(metrics.text), ready, None if ready else "it is not ready yet")
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            timed_out = isinstance(error, TimeoutError | httpx2.TimeoutException)
            why = f"no answer within {self._patience_s} s" if timed_out else str(error) or type(error).__name__
            return ServiceView(service=self._service, address=self._address, answers=False, ready=False, detail=why)

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._http.aclose()

    def _view(self, samples: Samples, ready: bool, detail: str | None) -> ServiceView:
        now, lag = counted(samples), _lags(samples)
        then = self._then(now)
        window_s = None if then is None else now.at - then.at
        lanes = [
            LaneView(
                partition=partition,
                lag=topics,
                rate_per_s=None
                if then is None or window_s is None
                else rate(
                    now.reached.get(partition, 0), then.reached.get(partition, now.reached.get(partition, 0)), window_s
                ),
            )
            for partition, topics in sorted(lag.items())
        ]
        return ServiceView(
            service=self._service,
            address=self._address,
            answers=True,
            ready=ready,
            detail=detail,
            window_s=None if window_s is None else round(window_s, 1),
            published_per_s=None if then is None or window_s is None else rate(now.published, then.published, window_s),
            effect=effects(now.effect, {}),
            lately={} if then is None else effects(now.effect, then.effect),
            lanes=lanes,
            lag=sum(sum(topics.values()) for topics in lag.values()),
            parked=int(_sum(samples, "qalqan_parked_submissions")),
            outbox_age_s=max((value for _, value in samples.get("qalqan_outbox_age_seconds", ())), default=0.0),
            rejected={
                labels["reason"]: int(value) for labels, value in samples.get("qalqan_rejected_submissions_total", ())
            },
            memory_bytes=int(_sum(samples, "process_resident_memory_bytes")) or None,
        )

    def _then(self, now: Counted) -> Counted | None:
        """The look that rates are measured from: the oldest within the window, or the last one before it."""
        if self._before and self._before[0].started != now.started:
            self._before.clear()  # another process: it counts from nothing
        self._before.append(now)
        while len(self._before) > 2 and self._before[0].at < now.at - _WINDOW_S:
            self._before.popleft()
        return self._before[0] if len(self._before) > 1 else None


def samples_of(text: str) -> Samples:
    """Samples by name, of Prometheus's text. ValueError: it is none."""
    found: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def counted(samples: Samples) -> Counted:
    """The counters of a replica, now."""
    effect: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for labels, value in samples.get("qalqan_effect_seconds_bucket", ()):
        effect[labels["topic"]][float(labels["le"])] = value
    reached: defaultdict[int, int] = defaultdict(int)
    for labels, value in samples.get("qalqan_next_offset", ()):
        reached[int(labels["partition"])] += int(value)
    return Counted(
        at=time.monotonic(),
        started=_sum(samples, "process_start_time_seconds"),
        published=_sum(samples, "qalqan_published_events_total"),
        effect=effect,
        reached=reached,
    )


def _lags(samples: Samples) -> dict[int, dict[str, int]]:
    lag: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for labels, value in samples.get("qalqan_lag_records", ()):
        lag[int(labels["partition"])][labels["topic"]] = int(value)
    return dict(lag)


def _sum(samples: Samples, name: str) -> float:
    return sum(value for _, value in samples.get(name, ()))
