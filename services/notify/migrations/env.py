"""Alembic's entry for the schema `notify`."""

from chassis.alembic_env import run

run()
