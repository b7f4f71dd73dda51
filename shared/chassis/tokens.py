"""Who reads over HTTP: tokens with a role, of a file that everybody's revocations reach at once.

The file holds no token, only the SHA-256 of each secret. A plain hash is enough: a secret is 256 random bits, so nobody
finds it by trying, and the slow hashes made for passwords would only cost every request.
"""

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import structlog
from pydantic import Field, ValidationError, model_validator

from qalqan.complaints import why_unreadable
from qalqan.fields import Instant, Model, State
from qalqan.instants import format_instant

log = structlog.get_logger()

Role = Literal["operator", "secretariat", "observer", "integrator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

DEVELOPMENT: Final = "development"
"""The id of the token in run.json, which stands in no file: it reads everything (CONTRACT "The runner")."""

_PREFIX: Final = "qalqan"
_LOOK_AGAIN_S = 0.5

TokenId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: what the token that was shown says of its holder."""

    role: Role
    state: str | None
    """An operator's state always; an integrator's where it has one."""
    name: str
    token_id: str

    def acts_for(self, state: str) -> bool:
        """Whether it may act for a state's duty desk: its operator, and the Secretariat."""
        return self.role == "secretariat" or (self.role == "operator" and self.state == state)


_DEVELOPER: Final = Reader("secretariat", None, DEVELOPMENT, DEVELOPMENT)


class Token(Model):
    """A token as the file has it: whose it is, until when, and the digest of its secret."""

    token_id: TokenId
    name: Name
    role: Role
    state: State | None
    secret_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    made_at: Instant
    valid_until: Instant
    """The first instant at which it counts no more."""
    revoked_at: Instant | None = None

    @model_validator(mode="after")
    def _has_its_state(self) -> "Token":
        if self.role == "operator" and self.state is None:
            raise ValueError("an operator is one of a state")
        if self.role not in ("operator", "integrator") and self.state is not None:
            raise ValueError(f"the role {self.role} is of no state")
        return self

    @property
    def reader(self) -> Reader:
        """Its holder."""
        return Reader(self.role, self.state, self.name, self.token_id)

    def over(self, now: datetime) -> str | None:
        """Why it counts no more; None: it does."""
        if self.revoked_at is not None:
            return f"it was revoked on {format_instant(self.revoked_at)}"
        if now >= self.valid_until:
            return f"it was valid until {format_instant(self.valid_until)}"
        return None


class TokenFile(Model):
    """All tokens that were made, those that count no more among them."""

    tokens: tuple[Token, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "TokenFile":
        """What a file says; none where there is no file. OSError: unreadable; ValueError: not such a file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()


def new_token(role: Role, state: str | None, name: str, made_at: datetime, valid_until: datetime) -> tuple[str, Token]:
    """A token as its holder shows it, and as the file has it. pydantic.ValidationError: role and state do not fit."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = Token(
        token_id=token_id,
        name=name,
        role=role,
        state=state,
        secret_sha256=_digest(secret),
        made_at=made_at,
        valid_until=valid_until,
    )
    return f"{_PREFIX}_{token_id}_{secret}", kept


class NotAdmitted(Exception):
    """What was shown is no token that counts; the text says why, as far as the holder may know."""


class Tokens:
    """The tokens that count now. A file that changes is read anew within a second, without a restart.

    A file that cannot be read changes nothing: the last that could rules (at the start: none is known), which the log
    says, and `qalqan doctor`. A file that is not there holds no token.
    """

    def __init__(self, path: Path | None, development: str = "") -> None:
        """`path`: None where there is no file. `development`: one more token, with the Secretariat's role."""
        self._path = path
        self._development = _digest(development) if development else None
        self._known: Mapping[str, Token] = {}
        self._seen: object = None
        self._look_at = 0.0

    def reader(self, shown: str) -> Reader:
        """Who shows this. NotAdmitted: nobody that we know."""
        if self._development is not None and hmac.compare_digest(_digest(shown), self._development):
            return _DEVELOPER
        self._look()
        prefix, _, rest = shown.partition("_")
        token_id, _, secret = rest.partition("_")
        token = self._known.get(token_id)
        if prefix != _PREFIX or token is None or not hmac.compare_digest(_digest(secret), token.secret_sha256):
            raise NotAdmitted("it is not known here")
        # Whoever has the secret may be told what became of it.
        if why := token.over(datetime.now(UTC)):
            raise NotAdmitted(why)
        return token.reader

    def readers(self) -> list[Reader]:
        """The holders of all tokens that count now."""
        self._look()
        now = datetime.now(UTC)
        found = [token.reader for token in self._known.values() if token.over(now) is None]
        return found if self._development is None else [*found, _DEVELOPER]

    def still_admits(self, reader: Reader) -> bool:
        """Whether the token by which a reader came counts yet: asked again and again while a stream is read."""
        if reader.token_id == DEVELOPMENT:
            return True
        self._look()
        token = self._known.get(reader.token_id)
        return token is not None and token.reader == reader and token.over(datetime.now(UTC)) is None

    def _look(self) -> None:
        """Reads the file again when it is another than half a second ago."""
        now = time.monotonic()
        if self._path is None or now < self._look_at:
            return
        self._look_at = now + _LOOK_AGAIN_S
        try:
            found = _mark(self._path)
            if found == self._seen:
                return
            self._known = {token.token_id: token for token in TokenFile.load(self._path).tokens}
            self._seen = found
        except (OSError, ValidationError) as error:
            log.error("tokens.unreadable", path=str(self._path), why=why_unreadable(error), known=len(self._known))


def _mark(path: Path) -> object:
    """What tells a file from the one that was there before; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
