"""Measurements of the whole program. Each module is a script, and its docstring has the command."""
