"""How a key comes into the register: its holder claims it, the Secretariat registers it, and revokes it one day.

A claim is all that the holder sends, and holds nothing secret: `{"network","source","key_id","algorithm","public_key",
"possession"}`, as in KeyRegistered. Whether it is really that state's must be made sure on another way.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2
from pydantic import ValidationError

from qalqan import jsontext, topics
from qalqan.client import Client
from qalqan.complaints import why_unreadable
from qalqan.envelope import Event, from_base64, to_base64, to_http
from qalqan.events import Scope, type_of
from qalqan.fields import KeyId, Model
from qalqan.instants import format_instant
from qalqan.registry import Registry, possession_claim
from qalqan.signing import PublicKey, SigningKey, sign
from qalqan.sources import Source, secretariat_source, state_source

_WAIT_S = 10
_TRIES = 5


class NotEnrolled(ValueError):
    """It cannot be done, or the system did not admit it; the text says why."""


class Claim(Model):
    """A key, whose it is said to be, and the proof that whoever says so has it."""

    network: str
    source: str
    key_id: KeyId
    algorithm: str
    public_key: str
    possession: str


def claim(network: str, state: str, key: SigningKey) -> Claim:
    """What a state that holds a key sends to the Secretariat."""
    return claim_of(network, state_source(network, state), key)


def claim_of(network: str, source: str, key: SigningKey) -> Claim:
    """The same of any source: a service's, the Secretariat's own."""
    possession = to_base64(key.sign(possession_claim(network, source, key.key_id)))
    return Claim(
        network=network,
        source=source,
        key_id=key.key_id,
        algorithm=key.algorithm,
        public_key=key.public_pem,
        possession=possession,
    )


def read_claim(content: bytes) -> Claim:
    """The claim that somebody sent, its form and its proof checked. NotEnrolled."""
    try:
        found = Claim.model_validate(jsontext.parse(content))
        key = PublicKey.from_pem(found.public_key, found.algorithm)
    except ValidationError as error:
        raise NotEnrolled(why_unreadable(error)) from error
    except ValueError as error:
        raise NotEnrolled(str(error)) from error
    source = Source.parse(found.source)
    if source is None or source.kind != "state" or source.network != found.network:
        raise NotEnrolled(f"source: {found.source!a} is no state's in {found.network!a}")
    if key.key_id != found.key_id:
        raise NotEnrolled("key_id: not the public key's")
    if not key.verify(possession_claim(found.network, found.source, found.key_id), _decoded(found.possession)):
        raise NotEnrolled("possession: not this key's own signature of its claim")
    return found


def _decoded(text: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError as error:
        raise NotEnrolled(f"possession: {error}") from error


class Registrar:
    """The Secretariat at its register: `client` reads `members`, `url` is the service's, `key` the office's.

    `source`: whose key that is, if not the Secretariat's: the root's, which answers for the Secretariat's own keys.
    """

    def __init__(self, client: Client, url: str, key: SigningKey, source: str | None = None) -> None:
        self._source = source or secretariat_source(client.root.network)
        self._client = client
        self._url = url
        self._key = key

    async def register(
        self, claimed: Claim, scopes: list[Scope], valid_from: datetime, valid_until: datetime | None
    ) -> str:
        """Registers a claimed key; where that now stands. NotEnrolled, KafkaError, httpx2.TransportError."""
        data = claimed.model_dump(exclude={"network"}) | {
            "scopes": scopes,
            "valid_from": format_instant(valid_from),
            "valid_until": None if valid_until is None else format_instant(valid_until),
        }
        return await self._state("KeyRegistered", claimed.key_id, data)

    async def revoke(self, key_id: str, reason: str) -> str:
        """Takes a key out of use, from now on and for ever; as `register`."""
        return await self._state("KeyRevoked", key_id, {"key_id": key_id, "reason": reason})

    async def _state(self, name: str, subject: str, data: dict[str, Any]) -> str:
        """Goes on where the chain stands; again, when somebody else went on with it in the same moment."""
        for _ in range(_TRIES):
            register = await self._register()
            link = {"serial": register.serial + 1, "previous": register.previous}
            status, said = await self._post(name, subject, data | link)
            if status == 201:
                where = said["stands_on"]
                return f"{where['topic']}/{where['partition']}, serial {register.serial + 1}"
            if status == 202:
                raise NotEnrolled(f"submitted, but not settled within {_WAIT_S} s: see {self._url}{said['location']}")
            if said.get("reason") != "stale":
                break
        raise NotEnrolled(f"{said.get('reason', status)}: {said['detail']}")

    async def _post(self, name: str, subject: str, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Signs and submits; the answer."""
        event = Event(
            id=str(uuid.uuid4()),
            source=self._source,
            type=type_of(name),
            subject=subject,
            time=format_instant(datetime.now(UTC)),
            datacontenttype="application/json",
            data=jsontext.canonical(data),
            extensions={"partitionkey": subject},
        )
        headers, body = to_http(sign(event, self._key))
        async with httpx2.AsyncClient(timeout=_WAIT_S + 5) as http:
            wait = {"Prefer": f"wait={_WAIT_S}"}
            answer = await http.post(f"{self._url}/events", content=body, headers=headers | wait)
        return answer.status_code, answer.json()

    async def _register(self) -> Registry:
        """As it stands now."""
        register = Registry(self._client.root)
        for message in await self._client.read([topics.MEMBERS]):
            register.take(message.offset, message.event)
        return register
