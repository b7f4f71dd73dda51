"""The stream: every public event once, in one order."""

from alembic import op

from chassis.schema import TOPIC_TABLE

revision = "0001"
down_revision = None

STATEMENTS = (
    TOPIC_TABLE,
    """create table stream (
        one      boolean primary key default true check (one),
        last_seq bigint not null default 0    -- whoever writes takes this row: numbers commit in order
    )""",
    "insert into stream default values",
    """create table event (
        seq       bigint primary key,                    -- the id of the server-sent event
        topic     text not null,
        partition int not null,
        "offset"  bigint not null,
        body      text not null,                         -- the structured CloudEvent, JSON
        unique (topic, partition, "offset")              -- once, whoever reads it and however often
    )""",
)


def upgrade() -> None:
    """Creates the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
