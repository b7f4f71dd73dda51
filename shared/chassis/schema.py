"""The tables that every service has in its own schema (DESIGN "Lanes"), made by its first migration."""

TOPIC_TABLE = """create table topic (                    -- which topics this database belongs to (chassis.recovery)
    name text primary key,
    id   uuid not null                                   -- Kafka's own, another one for a topic made anew
)"""
"""Every service has it, also the one without lanes."""

LANE_TABLES = (
    """create table lane (
        partition    int primary key,
        epoch        bigint not null default 0,          -- the fence: who owns the lane counts up
        owner        text,
        next_offsets jsonb not null default '{}',        -- topic -> next offset to handle; these rule
        step         bigint not null default 0,          -- transactions of this lane
        published    bigint not null default 0,          -- the step up to which the outbox is known to be out
        log_time     timestamptz not null default '-infinity',
        doc          jsonb not null default '{}',        -- what the service keeps for the whole lane
        handled      bigint[] not null default '{}'      -- after a rebuild: beyond the next, but done with
    )""",
    TOPIC_TABLE,
    """create table inbox (                               -- identities, so that nothing has an effect twice
        partition int not null,
        source    text not null,
        id        text not null,
        core      bytea not null,
        "offset"  bigint not null,
        outcome   text,                                  -- null: admitted; else the reason of its rejection
        primary key (partition, source, id)
    )""",
    """create table outbox (
        partition    int not null,
        step         bigint not null,
        ordinal      int not null,
        topic        text not null,
        to_partition int not null,
        key          text not null,
        position     bigint,
        value        bytea not null,
        headers      bytea not null,                     -- lines: name:value
        created_at   timestamptz not null default now(),
        primary key (partition, step, ordinal)
    )""",
    # Certificates are mostly base64: compressing them takes a fifth of the commit and saves a fifth of the room.
    "alter table outbox alter column value set storage external",
    # The backstop: whatever else goes wrong, no two events take one place in a key's order.
    "create unique index outbox_position on outbox (topic, key, position) where position is not null",
    # What became of a submission that was refused is asked for by its place, the key of its rejection.
    "create index outbox_unpositioned on outbox (topic, key) where position is null",
    """create table subject (                             -- a request, as this service sees it
        key       text primary key,
        partition int not null,
        open      boolean not null,                      -- a closed one leaves the hot set
        positions jsonb not null,                        -- topic -> last position given, or read
        folded    jsonb not null,                        -- facts of others that are in it: none is folded twice
        doc       jsonb not null
    )""",
    "create index subject_open on subject (partition) where open",
    """create table part (                                -- what a request has many of: votes, pledges
        key  text not null,
        name text not null,
        doc  jsonb not null,
        primary key (key, name)
    )""",
    """create table parked (                              -- submissions that stand on something not known yet
        partition int not null,
        "offset"  bigint not null,
        key       text not null,
        queue     text not null,
        source    text not null,
        record    bytea not null,
        parked_at timestamptz not null,
        members_offset bigint not null,
        primary key (partition, "offset")
    )""",
)
