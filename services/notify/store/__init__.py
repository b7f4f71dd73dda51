"""Notify's SQL, a module for each thing that is kept."""
