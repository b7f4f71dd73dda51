"""Groups of KIP-848's protocol (`group.protocol=consumer`), which DescribeGroups calls dead: ConsumerGroupDescribe.

aiokafka 0.14 does not know that request; so it stands here, in version 0 (Kafka 4.0 and newer), and goes over
aiokafka's own connection.
"""

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from chassis.topic_ids import Uuid

_CONSUMER_GROUP_DESCRIBE = 69

_ASSIGNMENT = Schema(
    (
        "partitions",
        CompactArray(
            ("topic_id", Uuid),
            ("topic", CompactString("utf-8")),
            ("partitions", CompactArray(Int32)),
            ("tags", TaggedFields),
        ),
    ),
    ("tags", TaggedFields),
)


class _Answer(Response):  # type: ignore[misc]
    API_KEY = _CONSUMER_GROUP_DESCRIBE
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("group_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("epoch", Int32),
                ("assignment_epoch", Int32),
                ("assignor", CompactString("utf-8")),
                (
                    "who",
                    CompactArray(
                        ("member_id", CompactString("utf-8")),
                        ("instance_id", CompactString("utf-8")),
                        ("rack", CompactString("utf-8")),
                        ("epoch", Int32),
                        ("client_id", CompactString("utf-8")),
                        ("host", CompactString("utf-8")),
                        ("topics", CompactArray(CompactString("utf-8"))),
                        ("topic_pattern", CompactString("utf-8")),
                        ("assignment", _ASSIGNMENT),
                        ("target", _ASSIGNMENT),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Struct(RequestStruct):  # type: ignore[misc]
    API_KEY = _CONSUMER_GROUP_DESCRIBE
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("groups", CompactArray(CompactString("utf-8"))), ("operations", Boolean), ("tags", TaggedFields))


class _Describe(Request[_Struct]):  # type: ignore[misc]
    API_KEY = _CONSUMER_GROUP_DESCRIBE

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class([self._group], False, {})


async def described(admin: AIOKafkaAdminClient, group: str, node: int) -> tuple[str, int] | None:
    """State and number of members, asked of the broker that coordinates the group; None: it is of no such protocol."""
    answer: Any = await admin._client.send(node, _Describe(group))
    [(code, _, _, state, _, _, _, members, *_)] = answer.groups
    return None if code else (state, len(members))
