"""Alembic's entry for the schema `consensus`."""

from chassis.alembic_env import run

run()
