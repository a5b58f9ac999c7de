"""Reads blocks: footers, records, and the proof that nothing is missing."""
