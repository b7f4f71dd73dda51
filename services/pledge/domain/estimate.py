"""When a pledge arrives: as its state says, else estimated from place and mode of transport.

The figures are assumptions, chosen cautiously (a duty officer is helped more by a late estimate than by a
promise), and whatever comes of them is marked `estimated` (CONTRACT, PledgeContent).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import asin, ceil, cos, radians, sin, sqrt
from typing import Final

from qalqan.events import PledgeContent
from qalqan.fields import Place

EARTH_RADIUS_KM: Final = 6371.0
"""Mean radius; a sphere is within 0.5 % of the ellipsoid, far below what the other assumptions leave open."""

_END_OF_CALENDAR: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Travel:
    """An assumption on a mode: its way in great circles, its speed, and the hours lost besides."""

    detour: float
    speed_km_h: float
    handling_h: float


TRAVEL: Final[Mapping[str, Travel]] = {
    # A loaded transport aircraft's block speed; loading, clearance and unloading take hours, not minutes.
    "air": Travel(detour=1.1, speed_km_h=600, handling_h=3),
    # A convoy of lorries with rests; roads wind, borders hold.
    "road": Travel(detour=1.4, speed_km_h=50, handling_h=2),
    # A freight train's commercial speed; marshalling at both ends, and the change of gauge in the region.
    "rail": Travel(detour=1.4, speed_km_h=35, handling_h=12),
    # 13 knots; the way round land, and a day in the ports.
    "sea": Travel(detour=1.6, speed_km_h=24, handling_h=24),
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """When to depart and when it is there; `arrives_at` None: not said, and no coordinates to estimate from.

    `depart_by`: the latest departure that keeps `arrives_at` by the estimated travel time, never before
    `ready_at`; `ready_at` itself where no travel time can be estimated.
    """

    depart_by: datetime
    arrives_at: datetime | None
    estimated: bool


@lru_cache(maxsize=10_000)  # each plan asks again for every pledge and need
def great_circle_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """The distance of two points, given in degrees, on the sphere (haversine formula)."""
    phi_a, phi_b = radians(lat_a), radians(lat_b)
    half_chord_squared = sin((phi_b - phi_a) / 2) ** 2 + cos(phi_a) * cos(phi_b) * sin(radians(lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half_chord_squared)))


def travel_time(offer: PledgeContent, to: Place) -> timedelta | None:
    """The estimated time from the offer's origin, in whole minutes (rounded up); None without coordinates."""
    origin = offer.origin
    if origin.lat is None or origin.lon is None or to.lat is None or to.lon is None:
        return None
    travel = TRAVEL[offer.mode_of_transport]
    distance_km = great_circle_km(origin.lat, origin.lon, to.lat, to.lon)
    hours = travel.handling_h + distance_km * travel.detour / travel.speed_km_h
    return timedelta(minutes=ceil(hours * 60))


def arrival(offer: PledgeContent, to: Place) -> Arrival:
    """When the offer arrives at a place, and when it must depart for that."""
    travel = travel_time(offer, to)
    if offer.arrives_at is None:
        # An offer that is ready at the end of the calendar is nonsense, but must not stop the lane.
        if travel is None or _END_OF_CALENDAR - offer.ready_at < travel:
            return Arrival(offer.ready_at, None, estimated=False)
        return Arrival(offer.ready_at, offer.ready_at + travel, estimated=True)
    if travel is None or offer.arrives_at - offer.ready_at <= travel:
        return Arrival(offer.ready_at, offer.arrives_at, estimated=False)
    return Arrival(offer.arrives_at - travel, offer.arrives_at, estimated=False)
