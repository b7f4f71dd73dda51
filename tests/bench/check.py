"""How a vote is checked on the bare sides of `votes_per_second` and its like: with the package `qalqan` alone."""

from collections.abc import Mapping, Sequence

from qalqan import jsontext
from qalqan.envelope import from_kafka
from qalqan.events import VoteCast
from qalqan.signing import PublicKey, read_material, verify


def checked(
    key: bytes | None, headers: Sequence[tuple[str, bytes]], value: bytes | None, keys: Mapping[str, PublicKey]
) -> VoteCast:
    """The vote of a record: envelope, signature by the key it names, data. `keys`: by id. Raises for what is none."""
    event = from_kafka(key, headers, value)
    material = read_material(event)
    verify(event, material, keys[material.key_id])
    return VoteCast.model_validate(jsontext.parse(event.data))
