"""Who may do what, and until when: members, keys, tokens."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx2
from pydantic import ValidationError

from chassis.follower import Follower
from chassis.tokens import Token, TokenFile
from deploy.local.doctor.finding import Finding, look, well, wrong
from deploy.local.doctor.system import System
from deploy.local.roles import SERVICES
from qalqan.complaints import why_unreadable
from qalqan.instants import format_instant
from qalqan.registry import RegisteredKey, Registry, Root
from qalqan.sources import service_source

_KEY_SOON = timedelta(days=30)
"""A new key needs a state's signature, the Secretariat's, and a restart."""
_PATIENCE_S = 1.0
_TOKEN_SOON = timedelta(days=14)


async def members(system: System) -> list[Finding]:
    """Members and keys, trusting nothing but root.json; keys that end soon; services that may not sign."""
    if system.root is None:
        return [look("members and keys", "nobody says where root.json is", "set QALQAN_ROOT")]
    try:
        root = Root.load(system.root)
    except (OSError, ValueError) as error:
        return [wrong("root.json", why_unreadable(error), f"bring {system.root} back: it is what everybody trusts")]
    follower = Follower(system.kafka, "doctor", root)
    try:
        await follower.start()
    finally:
        await follower.stop()
    return [*judged(follower.registry, datetime.now(UTC)), *await _known(system, follower.registry.next_offset)]


async def _known(system: System, members_offset: int) -> list[Finding]:
    """Services that have read less of `members` than stands there: they judge by old keys."""
    async with httpx2.AsyncClient(timeout=_PATIENCE_S, trust_env=False) as http:

        async def reached(address: str) -> int:
            try:
                return int((await http.get(f"{address}/health")).json()["members_offset"])
            except (httpx2.HTTPError, ValueError, KeyError):
                return members_offset  # that it does not answer is found elsewhere

        offsets = await asyncio.gather(*(reached(address) for _, address in system.services))
    return [
        wrong(
            "members and keys", f"{service} has read up to {offset} of {members_offset}", "see its log; start it again"
        )
        for (service, _), offset in zip(system.services, offsets, strict=True)
        if offset < members_offset
    ]


def judged(registry: Registry, now: datetime) -> list[Finding]:
    """What the register says at this moment."""
    states = [member.state for member in registry.members() if member.status == "member"]
    keys = [key for key in registry.keys() if key.revoked_at is None]  # noqa: SIM118 - it is no dict
    count = f"{len(states)} members ({', '.join(sorted(states))}), {len(keys)} keys"
    found = [
        well("members and keys", count)
        if states
        else wrong("members and keys", "there is none", "see the secretariat's log")
    ]
    for service in SERVICES:
        source = service_source(registry.network, service)
        if not any(key.source == source and key.valid_at(now) for key in keys):
            remedy = "register one (`qalqan keys`): what it signs is not believed"
            found.append(wrong(f"key of {service}", "it has none that is valid", remedy))
    ending = [finding for key in keys if (finding := _ends(key, keys, now)) is not None]
    return [*found, *(ending or [well("keys", f"none ends within {_KEY_SOON.days} days")])]


def _ends(key: RegisteredKey, keys: list[RegisteredKey], now: datetime) -> Finding | None:
    """A key that ends soon, or has ended, without another of the same holder that goes on."""
    until = key.valid_until
    if until is None or until > now + _KEY_SOON:
        return None
    holder = key.source.split("/", 3)[-1]
    later = (other for other in keys if other.source == key.source and other.scopes >= key.scopes)
    if any(other.valid_until is None or other.valid_until > now + _KEY_SOON for other in later):
        return None
    remedy = "its holder makes a new one (`qalqan keys new`), and the Secretariat registers it"
    seen = f"{key.key_id[:12]} of {holder}, until {format_instant(until)}"
    return look("keys", f"ends soon: {seen}", remedy) if until > now else wrong("keys", f"ended: {seen}", remedy)


async def tokens(system: System) -> list[Finding]:
    """Whether the file of tokens can be read, and which of them end soon."""
    try:
        found = TokenFile.load(system.tokens).tokens
    except (OSError, ValidationError) as error:
        remedy = "bring it back, or take it away and make new tokens: until then the last that could be read rules"
        return [wrong("tokens", f"{system.tokens}: {why_unreadable(error)}", remedy)]
    now = datetime.now(UTC)
    valid = [token for token in found if token.over(now) is None]
    soon = [token for token in valid if token.valid_until < now + _TOKEN_SOON]
    if not soon:
        return [well("tokens", f"{len(valid)} valid, none ends within {_TOKEN_SOON.days} days")]
    return [*map(_token, soon)]


def _token(token: Token) -> Finding:
    seen = f"{token.token_id} of {token.name!r} ends on {format_instant(token.valid_until)}"
    state = f" --state {token.state}" if token.state else ""
    return look("tokens", seen, f"`qalqan token make --role {token.role}{state} --name ...`, and hand it over")
