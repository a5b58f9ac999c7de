"""Where blocks and their ledgers live.

objects.py      the port that a place implements, and `Checked`, which guarantees its errors
store.py        `Store`: what lies where; and `open_store`
layout.py       the keys of a store's objects
local.py        a directory; files.py the file operations that it uses, o_direct.py writing past the page cache
bucket.py       between a place without append and the port; memory.py such a place in memory
json_codec.py   the JSON of entries and footers
blocks/         records to a Parquet file and back
ledger/         the ledgers: writing, reading, following
"""
