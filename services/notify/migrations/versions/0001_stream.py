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
        subject   text,                                  -- what it is about: its request, mostly
        reason    text,                                  -- of a rejection
        body      text not null,                         -- the structured CloudEvent, JSON
        unique (topic, partition, "offset")              -- once, whoever reads it and however often
    )""",
    "create index event_subject on event (subject, seq)",
    # For those who run the system: the newest first.
    "create index event_register on event (seq) where topic = 'members'",
    "create index event_rejection on event (seq) where topic = 'rejections'",
    "create index event_rejection_reason on event (reason, seq) where topic = 'rejections'",
    "create index event_rejection_inbox on event (split_part(subject, '/', 1), seq) where topic = 'rejections'",
    """create table view (                                 -- a request as readers see it (`board`)
        request_id text primary key,
        seq        bigint not null,                       -- of the newest event in it
        open       boolean not null,
        rank       smallint not null,                     -- how near to the top of the board
        at         timestamptz not null,                  -- raised; of what has ended, when that was
        mode       text not null,
        state      text not null,
        status     text not null,
        card       text not null,                         -- JSON
        doc        text not null                          -- JSON
    )""",
    "create index view_board on view (open desc, rank, at desc)",
    "create index view_seq on view (seq)",
    """create table board (
        one       boolean primary key default true check (one),
        projected bigint not null default 0               -- the views hold every event up to this number
    )""",
    "insert into board default values",
    """create table turn (                                 -- what a state owes (`turns`)
        turn_id         uuid primary key,
        request_id      text not null,
        state           text not null,
        kind            text not null,
        what            text not null,
        since           timestamptz not null,
        deadline        timestamptz,
        level           smallint not null default -1,      -- how often it was told; -1: not yet
        next_at         timestamptz,                       -- when it is told (again)
        told_at         timestamptz[] not null default '{}',
        acknowledged_at timestamptz,
        acknowledged_by text,
        ended_at        timestamptz
    )""",
    "create index turn_request on turn (request_id)",
    "create index turn_open on turn (state, since) where ended_at is null",
    "create index turn_due on turn (next_at) where ended_at is null and acknowledged_at is null",
)


def upgrade() -> None:
    """Creates the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
