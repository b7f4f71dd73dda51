"""HTTP out: the register of members and keys."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from chassis.database import Pool
from chassis.reading import Cursor, Limit, Page, Reads, Where, guarded, listed, readable, shown, unknown
from chassis.tokens import Tokens
from qalqan.events import KeyRegistered, KeyRevoked, MemberRegistered
from qalqan.fields import KeyId, State
from services.secretariat import store
from services.secretariat.domain import Register
from services.secretariat.handlers import REGISTER


class KeyView(KeyRegistered):
    """A key's registration. `revoked`: why it was revoked; null: it was not."""

    revoked: str | None


def router(pool: Pool, tokens: Tokens) -> APIRouter:
    """The register, for those who show a token."""
    reads, routes = Reads(pool, store.join), guarded(tokens)

    @routes.get(
        "/members",
        summary="Members, observers, partners",
        response_model=Page[MemberRegistered],
        responses=readable(422),
    )
    async def members(
        request: Request,
        status: Annotated[Literal["member", "observer", "partner"] | None, Query()] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """The latest registration of each state, by its code."""

        def wanted(member: MemberRegistered) -> bool:
            return status in (None, member.status)

        return listed(request, *await reads.page(Where({}), _members, limit, cursor, wanted))

    @routes.get("/members/{state}", summary="One state", response_model=MemberRegistered, responses=readable(404, 422))
    async def member(request: Request, state: Annotated[State, Path(examples=["KZ"])]) -> Response:
        """Its latest registration."""
        register = await reads.one(REGISTER)
        if register is None or state not in register.members:
            raise unknown(f"state {state}")
        return shown(request, register.members[state])

    @routes.get("/keys", summary="Keys", response_model=Page[KeyView], responses=readable(422))
    async def keys(
        request: Request,
        source: Annotated[str | None, Query(max_length=200, description="Whose: a source as in events")] = None,
        revoked: Annotated[bool | None, Query()] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """In the order of their registration."""

        def wanted(key: KeyView) -> bool:
            return source in (None, key.source) and revoked in (None, key.revoked is not None)

        return listed(request, *await reads.page(Where({}), _keys, limit, cursor, wanted))

    @routes.get("/keys/{key_id}", summary="One key", response_model=KeyView, responses=readable(404, 422))
    async def key(request: Request, key_id: Annotated[KeyId, Path()]) -> Response:
        """Its registration, and whether it was revoked."""
        register = await reads.one(REGISTER)
        for found in _keys(register) if register is not None else ():
            if found.key_id == key_id:
                return shown(request, found)
        raise unknown(f"key {key_id}")

    return routes


def _members(register: Register) -> Sequence[MemberRegistered]:
    return [data for _, data in sorted(register.members.items())]


def _keys(register: Register) -> Sequence[KeyView]:
    """In the order of the chain: what is new comes last, and moves no page."""
    keys = sorted(register.keys.values(), key=lambda key: key.serial)
    return [_key(key, register.revoked.get(key.key_id)) for key in keys]


def _key(key: KeyRegistered, revoked: KeyRevoked | None) -> KeyView:
    return KeyView(**dict(key), revoked=None if revoked is None else revoked.reason)
