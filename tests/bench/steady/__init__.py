"""Steady load for an hour or longer: does anything grow, fall behind or slow down? (`make steady`)"""
