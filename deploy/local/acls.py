"""Who may do what on Kafka, and how much of it: users, ACLs and quotas (DESIGN "Trust").

| user | reads | writes | consumer groups |
|---|---|---|---|
| a state, `KZ` | public topics | `inbox.*` | `KZ.*` |
| `reader` | public topics | nothing | `reader.*` |
| a service, `pledge` | public topics, its inbox | what it owns, `rejections`, its inbox (ticks, HTTP) | its own |
| `notify` | public topics | nothing | its own; and how far all others are (`GET /streams`), `qalqan doctor` |

Whatever stands nowhere here is refused: Kafka runs with `allow.everyone.if.no.acl.found=false`. Nobody but the runner's
admin may make, change or delete a topic, a user or a rule. An idempotent producer needs no rule of its own: to be
allowed to write to any topic is enough (KIP-679).
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeAclsRequest

from deploy.local.admin_protocol import AlterQuotas, AlterScram, CreateAcls, DeleteAcls
from deploy.local.errors import CannotStart
from deploy.local.keys import STATES
from deploy.local.roles import SERVICES
from qalqan.access import Access
from qalqan.runinfo import READER
from qalqan.topics import (
    DECISIONS,
    GOVERNANCE,
    INBOX_GOVERNANCE,
    INBOX_PLEDGES,
    INBOX_REQUESTS,
    INBOX_VOTES,
    INBOXES,
    MEMBERS,
    MOBILIZATIONS,
    PLEDGES,
    PUBLIC,
    REJECTIONS,
    REQUESTS,
    VOTES,
    Topic,
)

OWNED: Final[Mapping[str, tuple[Topic, tuple[Topic, ...]]]] = {
    "request": (INBOX_REQUESTS, (REQUESTS, REJECTIONS)),
    "pledge": (INBOX_PLEDGES, (PLEDGES, MOBILIZATIONS, REJECTIONS)),
    "consensus": (INBOX_VOTES, (VOTES, DECISIONS, REJECTIONS)),
    "secretariat": (INBOX_GOVERNANCE, (MEMBERS, GOVERNANCE, REJECTIONS)),
}
"""The inbox of each service that has one, and the public topics that it writes (DESIGN, table of services)."""

PUBLIC_USERS: Final = (*STATES, READER)
"""Whose passwords are handed out."""

USERS: Final = (*PUBLIC_USERS, *SERVICES)

QUOTAS: Final = {"producer_byte_rate": 1024 * 1024.0, "consumer_byte_rate": 8 * 1024 * 1024.0}
"""Bytes a second of each state and of `reader`, on each broker: some 800 signed submissions a second, and ten times as
much to read. Who exceeds it is slowed down by the broker, never refused; nobody else notices."""

_ITERATIONS = 4096
"""The least that Kafka takes. The passwords are 256 random bits: more rounds would only cost every connection."""
_PATIENCE_S = 15.0
_ANY, _ALLOW, _SCRAM_SHA_512 = 1, 3, 2  # Kafka's codes
_ALL = "*"  # stands for every name (KIP-290)


class Resource(IntEnum):
    """Kafka's codes (ResourceType)."""

    TOPIC = 2
    GROUP = 3


class Pattern(IntEnum):
    """Kafka's codes (PatternType): this name, or every name that begins so."""

    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """Kafka's codes (AclOperation). READ and WRITE imply DESCRIBE."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


@dataclass(frozen=True, slots=True)
class Acl:
    """That a user may do something from any host; the fields stand as in the protocol."""

    resource: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int


def allowed(user: str, operation: Operation, resource: Resource, name: str, pattern: Pattern = Pattern.LITERAL) -> Acl:
    """The rule that allows it."""
    return Acl(resource, name, pattern, f"User:{user}", "*", operation, _ALLOW)


def rules() -> set[Acl]:
    """All that is allowed on this network, as the table above says."""
    found = {allowed(user, Operation.READ, Resource.TOPIC, topic.name) for user in USERS for topic in PUBLIC}
    for user in PUBLIC_USERS:
        found.add(allowed(user, Operation.READ, Resource.GROUP, f"{user}.", Pattern.PREFIXED))
    for state in STATES:
        found |= {allowed(state, Operation.WRITE, Resource.TOPIC, inbox.name) for inbox in INBOXES}
    for service in SERVICES:
        found.add(allowed(service, Operation.READ, Resource.GROUP, f"qalqan.{service}"))
    # How far everybody is behind: members and offsets of all groups, the ends of all topics; no record of an inbox.
    found |= {allowed("notify", Operation.DESCRIBE, resource, _ALL) for resource in Resource}
    found.add(allowed("notify", Operation.DESCRIBE_CONFIGS, Resource.TOPIC, _ALL))
    for service, (inbox, public) in OWNED.items():
        found.add(allowed(service, Operation.READ, Resource.TOPIC, inbox.name))
        found |= {allowed(service, Operation.WRITE, Resource.TOPIC, topic.name) for topic in (inbox, *public)}
    return found


async def establish(admin: Access, passwords: Mapping[str, str]) -> None:
    """Makes Kafka's users, quotas and rules what they are here; returns when every broker knows them.

    `passwords`: of every user. Rules that stand nowhere here are taken away. Raises CannotStart.
    """
    client = AIOKafkaAdminClient(**admin.options())
    try:
        await client.start()
        kafka = client._client
        nodes = [broker.nodeId for broker in kafka.cluster.brokers()]
        await _users(kafka, nodes[0], passwords)
        await _quotas(kafka, nodes[0])
        await _rules(kafka, nodes)
    except (KafkaError, OSError) as error:
        raise CannotStart(f"Kafka's users and rules could not be made ({error!r}): look at its log.") from error
    finally:
        await client.close()


async def _users(kafka: Any, node: int, passwords: Mapping[str, str]) -> None:
    """Salted here (RFC 5802 "SaltedPassword"): the broker never sees a password."""
    upsertions: list[tuple[Any, ...]] = []
    for user, password in passwords.items():
        salt = os.urandom(32)
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
        upsertions.append((user, _SCRAM_SHA_512, _ITERATIONS, salt, salted, {}))
    answer = await kafka.send(node, AlterScram(upsertions))
    for user, code, message, _ in answer.results:
        _check(code, message, f"the user {user}")


async def _quotas(kafka: Any, node: int) -> None:
    operations = [(key, value, False) for key, value in QUOTAS.items()]
    answer = await kafka.send(node, AlterQuotas([([("user", user)], operations) for user in PUBLIC_USERS]))
    for code, message, entity in answer.entries:
        _check(code, message, f"the quota of {entity[0][1]}")


async def _rules(kafka: Any, nodes: Iterable[int]) -> None:
    first, *_ = nodes
    wanted, present = rules(), await _present(kafka, first)
    if missing := wanted - present:
        for code, message in (
            await kafka.send(first, CreateAcls([astuple(acl) for acl in missing]))
        ).creation_responses:
            _check(code, message, "a rule")
    if surplus := present - wanted:
        for code, message, _ in (
            await kafka.send(first, DeleteAcls([astuple(acl) for acl in surplus]))
        ).filter_responses:
            _check(code, message, "taking a rule away")
    deadline = time.monotonic() + _PATIENCE_S
    for node in nodes:  # the rules come last in the log: a broker that knows them knows the users too
        while await _present(kafka, node) != wanted:
            if time.monotonic() > deadline:
                raise CannotStart(f"The broker {node} does not learn who may do what: look at its log.")
            await asyncio.sleep(0.02)


async def _present(kafka: Any, node: int) -> set[Acl]:
    answer = await kafka.send(node, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
    _check(answer.error_code, answer.error_message, "reading the rules")
    return {Acl(resource, name, pattern, *acl) for resource, name, pattern, acls in answer.resources for acl in acls}


def _check(code: int, message: str | None, what: str) -> None:
    if code:
        raise CannotStart(f"Kafka refused {what}: {for_code(code).__name__} {message or ''}.")
