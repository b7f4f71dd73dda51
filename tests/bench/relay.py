"""The baseline: a relay of two hops, each a process of its own on bare aiokafka and asyncpg.

With a database, each hop makes one durable transaction, which writes the rows that the lane of a real
service wrote for the same message (`Template`), in the ordinary way: begin, the lane with its fence, the
inserts, commit, four round trips (DESIGN "What we know of the parts"). It then publishes one record of the size
that the service publishes. It parses, checks and signs nothing.
"""

import asyncio
import base64
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from chassis.ledger import load_headers
from chassis.schema import LANE_TABLES
from qalqan.topics import DECISIONS, KEYED_PARTITIONS
from tests.bench.ground import FETCH_BYTES, ROOT, Record, producing
from tests.bench.marks import mark

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_SEAL_BYTES = 456
"""Of a signature's header, which our services add on the way out (`chassis.publication`)."""

_FENCE = """
update lane set next_offsets = $3::jsonb, step = step + 1, log_time = $4, doc = $5::jsonb
where partition = $1 and next_offsets = $2::jsonb returning step
"""

_INSERTS = """
with identities as (
    insert into inbox (partition, source, id, core, "offset")
    select $1, r.* from unnest($3::text[], $4::text[], $5::bytea[], $6::bigint[]) r
), subjects as (
    insert into subject (key, partition, open, positions, folded, doc) values ($7, $1, true, $8::jsonb, '[]', $9::jsonb)
    on conflict (key) do update set positions = excluded.positions, doc = excluded.doc
), parts as (
    insert into part (key, name, doc)
    select $7, r.name, r.doc::jsonb from unnest($10::text[], $11::text[]) r (name, doc)
    on conflict (key, name) do update set doc = excluded.doc
)
insert into outbox (partition, step, ordinal, topic, to_partition, key, position, value, headers)
select $1, $2, r.ordinal, r.topic, $1, $7, r.position, r.value, r.headers
from unnest($12::int[], $13::text[], $14::bigint[], $15::bytea[], $16::bytea[])
    r (ordinal, topic, position, value, headers)
"""


@dataclass(frozen=True, slots=True)
class Template:
    """What one transaction of a service wrote for one message, and what it published (bytes as base64)."""

    next_offsets: dict[str, int]
    lane_doc: str
    identities: int
    positions: str
    doc: str
    parts: list[tuple[str, str]]
    outbox: list[tuple[str, int, str, str]]
    """Topic, position, value, headers; the last one is published."""


async def template(database: str, service: str, topic: str, key: str) -> Template:
    """What the transaction behind the newest record of (topic, key) wrote.

    Rows of one transaction share their xmin.
    To be read before another message of that request or lane is handled.
    """
    connection: Connection = await asyncpg.connect(database, server_settings={"search_path": service})
    try:
        out = await connection.fetch(
            """select o.topic, o.position, o.value, o.headers, o.xmin::text as xmin, o.partition
               from outbox o join (select partition, step from outbox where topic = $1 and key = $2
                                   order by position desc limit 1) newest using (partition, step)
               order by ordinal""",
            topic,
            key,
        )
        xmin, partition = out[0]["xmin"], out[0]["partition"]
        lane = await connection.fetchrow("select next_offsets, doc from lane where partition = $1", partition)
        subject = await connection.fetchrow("select positions, doc from subject where key = $1", key)
        parts = await connection.fetch("select name, doc from part where key = $1 and xmin::text = $2", key, xmin)
        identities = await connection.fetchval(
            "select count(*) from inbox where partition = $1 and xmin::text = $2", partition, xmin
        )
    finally:
        await connection.close()
    assert lane is not None
    assert subject is not None
    return Template(
        json.loads(lane["next_offsets"]),
        lane["doc"],
        identities,
        subject["positions"],
        subject["doc"],
        [(part["name"], part["doc"]) for part in parts],
        [
            (
                row["topic"],
                row["position"],
                base64.b64encode(row["value"]).decode(),
                base64.b64encode(row["headers"]).decode(),
            )
            for row in sorted(out, key=lambda row: bool(row["topic"] == topic))
        ],
    )


@dataclass(frozen=True, slots=True)
class Hop:
    """One process of the relay. `database` None: it only relays."""

    name: str
    kafka: str
    source: str
    target: str
    template: Template
    database: str | None


class Rows:
    """The transactions of a hop."""

    def __init__(self, connection: Connection, hop: Hop) -> None:
        self._connection = connection
        self._plan = hop.template
        self._source = hop.source
        self._outbox = [
            (topic, position, base64.b64decode(value), base64.b64decode(headers))
            for topic, position, value, headers in hop.template.outbox
        ]
        # As many offsets as the service keeps, so that the fence compares as much.
        self._others = dict(list(hop.template.next_offsets.items())[1:])
        self._offsets: dict[int, int] = {}

    @classmethod
    async def open(cls, hop: Hop) -> "Rows":
        """A schema with the tables of a service, and its lanes: made, or as a hop that was killed left them."""
        schema = f"bench_{hop.name.replace('-', '_')}"
        connection: Connection = await asyncpg.connect(
            hop.database, server_settings={"search_path": schema, "application_name": schema, "jit": "off"}
        )
        rows = cls(connection, hop)
        if await connection.fetchval("select 1 from pg_namespace where nspname = $1", schema):
            for lane in await connection.fetch("select partition, next_offsets from lane"):
                rows._offsets[lane["partition"]] = json.loads(lane["next_offsets"])[hop.source]
            return rows
        await connection.execute(f"create schema {schema}")
        for table in LANE_TABLES:
            await connection.execute(table)
        for partition in range(KEYED_PARTITIONS):
            await connection.execute(
                "insert into lane (partition, next_offsets) values ($1, $2)", partition, rows._at(0)
            )
        return rows

    def next_offset(self, partition: int) -> int:
        """Of the source, the next one to relay: where a hop that was killed goes on."""
        return self._offsets.get(partition, 0)

    def _at(self, offset: int) -> str:
        return json.dumps({self._source: offset, **self._others})

    async def write(self, record: Record) -> None:
        """One durable transaction for one record."""
        plan, partition, key = self._plan, record.partition, (record.key or b"").decode()
        before = self._offsets.get(partition, 0)
        async with self._connection.transaction():
            step = await self._connection.fetchval(
                _FENCE,
                partition,
                self._at(before),
                self._at(record.offset + 1),
                datetime.fromtimestamp(record.timestamp / 1000, UTC),
                plan.lane_doc,
            )
            assert step is not None, "the fence holds: nobody else writes"
            await self._connection.execute(
                _INSERTS,
                partition,
                step,
                ["qalqan://bench/states/UZ"] * plan.identities,
                [f"{key}-{number}" for number in range(plan.identities)],
                [bytes(32)] * plan.identities,
                [record.offset] * plan.identities,
                key,
                plan.positions,
                plan.doc,
                [name for name, _ in plan.parts],
                [doc for _, doc in plan.parts],
                list(range(len(self._outbox))),
                [topic for topic, _, _, _ in self._outbox],
                [position for _, position, _, _ in self._outbox],
                [value for _, _, value, _ in self._outbox],
                [headers for _, _, _, headers in self._outbox],
            )
        self._offsets[partition] = record.offset + 1


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: AIOKafkaConsumer, rows: Rows | None) -> None:
        self._consumer = consumer
        self._rows = rows

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        pass

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        for tp in assigned if self._rows is not None else ():
            self._consumer.seek(tp, self._rows.next_offset(tp.partition))
        print("ready", flush=True)


async def work(hop: Hop) -> None:
    """Relays until it is told to stop."""
    _, _, value, blob = hop.template.outbox[-1]
    out = base64.b64decode(value)
    headers = [*load_headers(base64.b64decode(blob)), ("ce_dssematerial", bytes(_SEAL_BYTES))]
    rows = await Rows.open(hop) if hop.database else None
    consumer = AIOKafkaConsumer(
        bootstrap_servers=hop.kafka,
        group_id=f"bench.{hop.name}",
        group_instance_id=hop.name,
        partition_assignment_strategy=(RangePartitionAssignor,),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=500,
    )
    async with producing(hop.kafka) as producer:
        await consumer.start()
        consumer.subscribe([hop.source], listener=_Assigned(consumer, rows))
        try:
            while True:
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in batch:
                        if rows is not None and record.offset < rows.next_offset(record.partition):
                            continue  # read again after a rebalance
                        name = f"{hop.source}|{record.key.decode()}"
                        mark(f"{hop.name}.polled", name)
                        if rows is not None:
                            await rows.write(record)
                        mark(f"{hop.name}.committed", name)
                        await producer.send_and_wait(
                            hop.target, out, key=record.key, headers=headers, partition=record.partition
                        )
                        mark(f"{hop.name}.published", name)
        finally:
            await consumer.stop()


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay: what goes into `source` comes out of `target`."""

    name: str
    source: str
    target: str


@contextlib.asynccontextmanager
async def relaying(
    name: str, kafka: str, database: str | None, first: Template, second: Template
) -> AsyncIterator[Relay]:
    """A relay of two hops, running for the length of the block, on topics of its own like ours."""
    topics = [f"bench.{name}.{number}" for number in range(3)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    config = DECISIONS.config()
    await admin.create_topics([NewTopic(topic, KEYED_PARTITIONS, 1, topic_configs=config) for topic in topics])
    await admin.close()
    hops = [
        Hop(f"{name}-{number + 1}", kafka, topics[number], topics[number + 1], plan, database)
        for number, plan in enumerate((first, second))
    ]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.relay"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in hops
    ]
    try:
        for process, hop in zip(processes, hops, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asdict(hop)).encode() + b"\n")
            process.stdin.write_eof()
            said = await asyncio.wait_for(process.stdout.readline(), 30)
            assert said == b"ready\n", f"the relay {hop.name} does not start"
        yield Relay(name, topics[0], topics[-1])
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes))


def _hop(data: dict[str, Any]) -> Hop:
    return Hop(**{**data, "template": Template(**data["template"])})


async def _until_told(hop: Hop) -> None:
    task = asyncio.create_task(work(hop))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    told = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else sys.stdin.readline()
    uvloop.run(_until_told(_hop(json.loads(told))))
