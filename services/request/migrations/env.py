"""Alembic's entry for the schema `request`."""

from chassis.alembic_env import run

run()
