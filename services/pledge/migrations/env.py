"""Alembic's entry for the schema `pledge`."""

from chassis.alembic_env import run

run()
