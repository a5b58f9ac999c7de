"""Brings back what is lost of a store, from what is left of its files and from the stream.

damages.py    what is missing and damaged, kept on disk, and what cannot be known
restore.py    `Restorer`: new blocks in the place of damaged ones
sources.py    a `RangeFetcher` for each stream that a store has had
warning.py    what is lost and about to be trimmed
fallback.py   `KinesisFallback`: what a reader gets where a block is missing
"""
