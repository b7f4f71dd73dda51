"""The services: whether each answers, whether every lane moves, whether what is decided goes out."""

import asyncio
from collections import defaultdict

from deploy.local.doctor.finding import Finding, look, well, wrong
from deploy.local.doctor.system import System
from deploy.local.roles import SERVICES
from qalqan.topics import KEYED_PARTITIONS
from services.notify.domain.standing import LaneView, ServiceView

_BETWEEN_LOOKS_S = 1.0
_OLD_S = 10.0
_LANES = {"secretariat": 1}

Looks = tuple[list[ServiceView], list[ServiceView]]


async def services(system: System) -> list[Finding]:
    """Each service's health, lanes and outbox, from two looks at what it tells of itself."""
    first, second = await _looks(system)
    missing = sorted(set(SERVICES) - {view.service for view in second})
    told = [
        look(f"service {name}", "nobody says where it is", "QALQAN_SERVICES=request=http://...,pledge=..., or run.json")
        for name in missing
    ]
    return [*map(health, second), *told, *lanes(first, second), *outboxes(second)]


async def _looks(system: System) -> Looks:
    replicas = system.replicas()
    try:
        first = await asyncio.gather(*(replica.look() for replica in replicas))
        await asyncio.sleep(_BETWEEN_LOOKS_S)
        return first, await asyncio.gather(*(replica.look() for replica in replicas))
    finally:
        await asyncio.gather(*(replica.close() for replica in replicas))


def health(view: ServiceView) -> Finding:
    """Whether a replica answers and is ready."""
    what = f"service {view.service}"
    if not view.answers:
        remedy = f"see its log and its process; frozen, it loses its lanes to another replica (logs/{view.service}.log)"
        return wrong(what, f"{view.address}: {view.detail}", remedy)
    if not view.ready:
        return wrong(what, f"{view.address}: {view.detail}", "it joins within seconds; if not, see its log")
    return well(what, view.address)


def lanes(first: list[ServiceView], second: list[ServiceView]) -> list[Finding]:
    """Whether every lane has an owner, and what is not handled yet becomes less: by service."""
    found = []
    before = _by_service(first)
    for service, owned in _by_service(second).items():
        what = f"lanes of {service}"
        wanted = set(range(_LANES.get(service, KEYED_PARTITIONS)))
        behind = {number: lag for number, lane in owned.items() if (lag := sum(lane.lag.values()))}
        was_behind = {number for number, lane in before[service].items() if any(lane.lag.values())}
        still = [number for number in behind if number in was_behind and not owned[number].rate_per_s]
        if orphans := sorted(wanted - owned.keys()):
            remedy = "start a replica of it; another that is frozen keeps its lanes until its session ends"
            found.append(wrong(what, f"nobody has {_numbers(orphans)}", remedy))
        elif still:
            seen = f"no progress in {_numbers(still)}, with {sum(behind[n] for n in still)} records to handle"
            found.append(wrong(what, seen, f"see logs/{service}.log: it says what it waits for, or met"))
        elif behind:
            seen = f"{sum(behind.values())} records to handle, and it is at it"
            found.append(look(what, seen, "wait; if it grows for minutes, more comes than one replica can do"))
        else:
            found.append(well(what, f"{len(owned)}, nothing to handle"))
    return found


def outboxes(views: list[ServiceView]) -> list[Finding]:
    """Whether what was committed is out."""
    told = [view for view in views if view.answers]
    old = [view for view in told if (view.outbox_age_s or 0) > _OLD_S]
    if not told:
        return []
    if not old:
        return [well("outboxes", "what was committed is out")]
    seen = ", ".join(f"{view.service}: since {view.outbox_age_s:.0f} s" for view in old)
    return [wrong("outboxes", f"not published: {seen}", "Kafka takes nothing from them: see its log, and its rules")]


def _by_service(views: list[ServiceView]) -> dict[str, dict[int, LaneView]]:
    found: defaultdict[str, dict[int, LaneView]] = defaultdict(dict)
    for view in views:
        if view.answers:
            found[view.service] |= {lane.partition: lane for lane in view.lanes}
    return found


def _numbers(lanes: list[int]) -> str:
    return f"{'lane' if len(lanes) == 1 else 'lanes'} {', '.join(map(str, sorted(lanes)))}"
