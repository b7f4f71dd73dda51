"""Mutated submissions by the thousand, to the real topics and doors, every one of them accounted for.

`python -m tests.fuzz` (`make fuzz`) runs a system of its own; a small part is in `make test`. A seed and a commit
replay a run's submissions, but for ids and instants of the system's own.
"""
