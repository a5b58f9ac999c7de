"""Where blocks and their ledger live.

base.py      the contract of a store, and `open_store`
files.py     the file operations that the local store uses, and nothing more
direct.py    writing past the page cache
reads.py     reading blocks; tells a store that fails from a block that is damaged
blocks.py    a block that is read: where the rows of a range are
footers.py   what a block says of itself
notes.py     notes of what maintenance records, in its order
follow.py    the feed of changes to the blocks
reading.py   Ledger: every walk through the ledgers
tailing.py   a walk that goes on where it stopped
walk.py      the whole ledger while a store is verified
losses.py    what is lost of ledgers
local.py     a store in a local directory
layout.py    the keys of a store
parquet.py   ranges to a Parquet block
entries.py   what the ledger records, and the hash chain of its lines
json_codec.py   the JSON of entries and footers
ledger.py    writing the ledger, loading it, rebuilding it from the blocks' footers
"""
