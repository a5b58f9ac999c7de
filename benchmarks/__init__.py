"""Measures what kcl_receiver costs, beside what else could be run and beside the machine's own limits."""
