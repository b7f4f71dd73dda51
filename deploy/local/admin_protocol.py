"""What aiokafka's protocol lacks: users, quotas, and many rules in one request.

The schemas are those of Kafka's protocol guide (AlterUserScramCredentials, AlterClientQuotas, CreateAcls, DeleteAcls).
"""

from typing import Any, TypeVar

from aiokafka.protocol.admin import CreateAclsRequest_v1, DeleteAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Float64,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

T = TypeVar("T", bound=RequestStruct)


class AlterScramAnswer(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterScramV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = AlterScramAnswer
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterQuotasAnswer(Response):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "entries",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("entity", Array(("type", String("utf-8")), ("name", String("utf-8")))),
            ),
        ),
    )


class AlterQuotasV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = AlterQuotasAnswer
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", Array(("type", String("utf-8")), ("name", String("utf-8")))),
                ("operations", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Plain(Request[T]):  # type: ignore[misc]
    """A request that is the same in every version: its fields, as they stand in its schema."""

    API_KEY = -1  # each has its own

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: Any) -> Any:
        """As aiokafka asks for it."""
        return request_struct_class(*self._fields)


class CreateAcls(_Plain[CreateAclsRequest_v1]):
    """Many rules at once: (resource type, name, pattern type, principal, host, operation, permission)."""

    API_KEY = 30

    def __init__(self, rules: list[tuple[Any, ...]]) -> None:
        super().__init__(rules)


class DeleteAcls(_Plain[DeleteAclsRequest_v1]):
    """Many rules at once, as they were created."""

    API_KEY = 31

    def __init__(self, rules: list[tuple[Any, ...]]) -> None:
        super().__init__(rules)


class AlterScram(_Plain[AlterScramV0]):
    """Users made or renewed: (name, mechanism, iterations, salt, salted password, {})."""

    API_KEY = 51

    def __init__(self, upsertions: list[tuple[Any, ...]]) -> None:
        super().__init__([], upsertions, {})


class AlterQuotas(_Plain[AlterQuotasV0]):
    """Quotas set: (entity as [(type, name)], [(quota, value, remove it)])."""

    API_KEY = 49

    def __init__(self, entries: list[tuple[Any, ...]]) -> None:
        super().__init__(entries, False)
