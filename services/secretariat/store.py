"""How the register is stored: the chain's head as a document, each member and key as a part."""

from collections.abc import Mapping
from typing import Any

from qalqan.events import dump
from services.secretariat.domain import Register


def split(before: Register | None, after: Register) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The head, and the registrations that are new."""
    before = before or Register()
    members = [
        (f"member:{state}", dump(data))
        for state, data in after.members.items()
        if before.members.get(state) is not data
    ]
    keys = [(f"key:{key_id}", dump(data)) for key_id, data in after.keys.items() if key_id not in before.keys]
    revoked = [
        (f"revoked:{key_id}", dump(data)) for key_id, data in after.revoked.items() if key_id not in before.revoked
    ]
    return {"serial": after.serial, "previous": after.previous}, [*members, *keys, *revoked]


def join(doc: dict[str, Any], parts: Mapping[str, Any]) -> Register:
    """The register from its head and its registrations."""

    def named(kind: str) -> dict[str, Any]:
        return {name.removeprefix(kind): part for name, part in parts.items() if name.startswith(kind)}

    return Register.model_validate(
        {**doc, "members": named("member:"), "keys": named("key:"), "revoked": named("revoked:")}
    )
