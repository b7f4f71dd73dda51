"""Who is told of what, and what became of it."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """create table subscription (
        subscription_id   text primary key,
        owner             text not null,              -- who may see and change it: `state:KZ`, `integrator:<name>`, ...
        kind              text not null check (kind in ('webhook', 'email')),
        target            text not null,              -- a URL, an address
        name              text not null default '',
        filter            jsonb not null,
        digest_minutes    int not null default 0,     -- letters only; 0: at once
        status            text not null default 'active' check (status in ('active', 'paused', 'disabled')),
        why               text,                       -- of `disabled`
        secret            text,                       -- in the clear: it signs
        old_secret        text,
        old_secret_until  timestamptz,
        created_at        timestamptz not null default now(),
        created_by        text not null
    )""",
    "create index on subscription (owner)",
    """create table place (                          -- apart from what seldom changes: this row is written all the time
        subscription_id text primary key references subscription on delete cascade,
        seq             bigint not null               -- every event up to it is delivered, recorded, or not wanted
    ) with (fillfactor = 50)""",
    """create table announcement (                   -- what is told beside public events: it is a state's turn
        number bigint generated always as identity primary key,
        at     timestamptz not null default now(),
        body   text not null,                         -- a structured CloudEvent, JSON
        spread boolean not null default false         -- whether a delivery stands for each that wants it
    )""",
    "create index on announcement (number) where not spread",
    """create table delivery (
        subscription_id text not null references subscription on delete cascade,
        kind            text not null check (kind in ('event', 'announcement')),
        number          bigint not null,              -- seq of the event, or number of the announcement
        state           text not null check (state in ('waiting', 'delivered', 'dead')),
        attempts        int not null,
        due_at          timestamptz not null,
        due_since       timestamptz not null,         -- when it was first due: after a day it is dead
        changed_at      timestamptz not null default now(),
        status          int,                          -- of the last answer
        error           text,
        took_ms         int,
        primary key (subscription_id, kind, number)
    )""",
    "create index on delivery (subscription_id, due_at) where state = 'waiting'",
    "create index on delivery (due_since) where state = 'waiting'",
    "create index on delivery (state, changed_at)",
    """create table dispatcher (                     -- one replica dispatches at a time
        one    boolean primary key default true check (one),
        holder text not null,
        until  timestamptz not null
    )""",
)


def upgrade() -> None:
    """Creates the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
