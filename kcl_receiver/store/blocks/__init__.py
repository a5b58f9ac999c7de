"""Blocks: records to a Parquet file and back.

encode.py      ranges to a block
arrays.py      columns of the wire to Arrow and back, without a copy
file.py        `BlockFile`: the only place that knows where the rows of a range are
footers.py     what a block says of itself
checksums.py   the checksums of ranges, from rows
merge.py       several blocks to one
stream.py      reading bytes: tells a place that fails from a block that is damaged
"""
