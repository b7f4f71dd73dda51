"""Clients with no code of ours, each written from the contract alone, and the tests that let them take part.

What is not a `test_` file here imports neither `qalqan` nor `chassis` (`test_stranger.py` sees to that).
"""
