"""Alembic's entry for the schema `secretariat`."""

from chassis.alembic_env import run

run()
