"""Decisions from runs that exist: compare, confirm, predict, submit, repair."""
