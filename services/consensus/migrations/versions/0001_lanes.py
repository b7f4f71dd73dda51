"""The tables of a lane."""

from alembic import op

from chassis.schema import LANE_TABLES

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    for statement in LANE_TABLES:
        op.execute(statement)
    # A reader may know nothing of a ballot but its id.
    op.execute("create index part_ballot on part (name) where name like 'ballot:%'")
