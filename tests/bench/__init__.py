"""Benchmarks: each figure beside its baseline, both measured in one run (CONTRACT "The runner")."""
