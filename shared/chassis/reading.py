"""Reading over HTTP: from PostgreSQL, never from a lane's memory, so that any replica answers.

Pages follow the order of keys; a cursor names the last thing that was shown. ETags are strong: digests of the content.
"""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from chassis.database import Pool
from chassis.handlers import Doc, S
from chassis.problems import Responses, described
from chassis.tokens import NotAdmitted, Reader, Role, Tokens

T = TypeVar("T")

_SUBJECTS_A_QUERY = 50
_SUBJECTS_A_PAGE = 1_000
_LOOK_AGAIN_S = 0.5
_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="qalqan_<id>_<secret>",
    description="A token with a role (operator of a state, secretariat, observer, integrator), made by `qalqan token "
    "make`; on a development network also `token` of run.json, which is the Secretariat's. 401: none that counts; 403: "
    "its role may not.",
)
TOKEN = [{"token": list[str]()}]
"""The security requirement of what needs a token."""

Limit = Annotated[int, Query(ge=1, le=500, description="How many at most")]
Cursor = Annotated[
    str | None, Query(max_length=400, description="Where the page before ended: take it from `next`, or from `Link`")
]


class Guard:
    """Lets only those read who show a token that counts, of one of some roles (none named: of any)."""

    def __init__(self, tokens: Tokens, *roles: Role) -> None:
        self._tokens = tokens
        self._roles = roles

    async def __call__(
        self, request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> Reader:
        """401 without `Authorization: Bearer <token>`, 403 where the token's role may not."""
        if shown is None:
            raise _unauthorized("show `Authorization: Bearer <token>`")
        try:
            reader = self._tokens.reader(shown.credentials)
        except NotAdmitted as why:
            raise _unauthorized(f"the token that was shown does not count: {why}") from None
        if self._roles and reader.role not in self._roles:
            raise forbidden(f"this is for {' or '.join(self._roles)}; the token that was shown is of {reader.role}")
        request.state.reader = reader
        return reader


def guarded(tokens: Tokens, *roles: Role) -> APIRouter:
    """A router whose routes need a token, of one of some roles (none named: of any)."""
    problems = described(401, 403) if roles else described(401)
    return APIRouter(dependencies=[Depends(Guard(tokens, *roles))], responses=problems)


async def _asking(request: Request) -> Reader:
    reader: Reader = request.state.reader
    return reader


Asking = Annotated[Reader, Depends(_asking)]
"""A parameter of a handler behind a `Guard`: who asks."""


def forbidden(why: str) -> HTTPException:
    """403: not for the one who asks."""
    return HTTPException(403, why)


async def while_admitted(tokens: Tokens, reader: Reader, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """What a stream brings, until the reader's token counts no more: nothing comes through after that."""
    look_at = 0.0
    async for item in items:
        if (now := time.monotonic()) >= look_at:
            if not tokens.still_admits(reader):
                return
            look_at = now + _LOOK_AGAIN_S
        yield item


def _unauthorized(why: str) -> HTTPException:
    return HTTPException(401, why, {"WWW-Authenticate": "Bearer"})


class Page(BaseModel, Generic[T]):
    """Some of them, in a fixed order. `next`: the cursor of the page behind; null on the last."""

    items: list[T]
    next: str | None = None


def readable(*problems: int) -> Responses:
    """The answers that every read has: 304 for what the reader has already, and problems."""
    return {304: {"description": "Unchanged since `If-None-Match`", "content": {}}, **described(401, *problems, 503)}


@dataclass(frozen=True, slots=True)
class Where:
    """Which subjects: values of their documents' fields, whether they are open, their key (None: any)."""

    fields: Mapping[str, str | None]
    is_open: bool | None = None
    key: str | None = None

    def sql(self, first: int) -> tuple[str, list[str]]:
        """Conditions, and the parameters from number `first` on."""
        wanted = {name: value for name, value in self.fields.items() if value is not None}
        terms = [f"s.doc ->> '{name}' = ${number}" for number, name in enumerate(wanted, first)]
        if self.is_open is not None:
            terms.append("s.open" if self.is_open else "not s.open")
        parameters = list(wanted.values())
        if self.key is not None:
            parameters.append(self.key)
            terms.append(f"s.key = ${first + len(wanted)}")
        return "".join(f" and {term}" for term in terms), parameters


class Reads(Generic[S]):
    """The states that a service keeps, read one by one or page by page."""

    def __init__(
        self, pool: Pool, join: Callable[[Doc, Mapping[str, Any]], S], looks_through: int = _SUBJECTS_A_PAGE
    ) -> None:
        self._pool = pool
        self._join = join
        self._looks_through = looks_through

    async def one(self, key: str) -> S | None:
        """The state of a key."""
        found = await self._subjects("s.key = $1", [key], 1)
        return found[0][1] if found else None

    async def page(
        self,
        where: Where,
        things: Callable[[S], Sequence[T]],
        limit: int,
        cursor: str | None,
        wanted: Callable[[T], bool] = lambda thing: True,
    ) -> tuple[list[T], str | None]:
        """Things that states have, those that are wanted, and the cursor of the page behind. 422: no cursor of ours.

        A page looks through so many states and no more, and may be shorter than asked for, even empty, with others
        behind it: lanes work in the same event loop.
        """
        key, number = _place(cursor)
        conditions, parameters = where.sql(2)
        found: list[T] = []
        comparison, looked_through = ">=", 0
        while looked_through < self._looks_through:
            size = min(_SUBJECTS_A_QUERY, limit + 1)
            rows = await self._subjects(f"s.key {comparison} $1{conditions}", [key, *parameters], size)
            for row_key, state in rows:
                skipped = number if row_key == key else 0
                key, number = row_key, skipped
                for thing in things(state)[skipped:]:
                    if wanted(thing):
                        if len(found) == limit:
                            return found, _cursor(key, number)
                        found.append(thing)
                    number += 1
            if len(rows) < size:
                return found, None
            comparison, looked_through = ">", looked_through + len(rows)
        return found, _cursor(key, number)

    async def _subjects(self, condition: str, parameters: list[str], limit: int) -> list[tuple[str, S]]:
        """States with their parts, of one moment."""
        rows = await self._pool.fetch(
            f"""select s.key, s.doc, (select jsonb_object_agg(p.name, p.doc) from part p where p.key = s.key) as parts
                from subject s where {condition} order by s.key limit {limit}""",
            *parameters,
        )
        return [(row["key"], self._join(json.loads(row["doc"]), json.loads(row["parts"] or "{}"))) for row in rows]


def answer(request: Request, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with its strong ETag; 304 without a body when the reader has it (RFC 9110, 13.1.2)."""
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    told = {**(headers or {}), "ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if _has(request, etag):
        return Response(status_code=304, headers=told)
    return Response(body, 200, told, "application/json")


def shown(request: Request, thing: BaseModel) -> Response:
    """One thing."""
    return answer(request, thing.model_dump_json(by_alias=True).encode())


def listed(request: Request, items: Iterable[BaseModel], cursor: str | None) -> Response:
    """A page, with `Link: rel="next"` (RFC 8288) when there is one behind it."""
    texts = ",".join(item.model_dump_json(by_alias=True) for item in items)
    body = f'{{"items":[{texts}],"next":{json.dumps(cursor)}}}'.encode()
    if cursor is None:
        return answer(request, body)
    behind = request.url.include_query_params(cursor=cursor)
    return answer(request, body, {"Link": f'<{behind.path}?{behind.query}>; rel="next"'})


def unknown(what: str) -> HTTPException:
    """404: there is none."""
    return HTTPException(404, f"no {what} is known")


def _has(request: Request, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")]
    return etag in tags or "*" in tags


def _cursor(key: str, number: int) -> str:
    return urlsafe_b64encode(json.dumps([key, number]).encode()).decode().rstrip("=")


def _place(cursor: str | None) -> tuple[str, int]:
    """The key, and the number within it, from which a page goes on."""
    if cursor is None:
        return "", 0
    try:
        key, number = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(key, str) and key.isascii() and key.isprintable() and type(number) is int and number >= 0:
            return key, number
    except (ValueError, TypeError):
        pass
    raise HTTPException(422, "cursor: not one that this service gave")
