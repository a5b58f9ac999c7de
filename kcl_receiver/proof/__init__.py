"""What ranges, marks and times prove. Arithmetic alone: no store, no clock.

coverage.py   positions, spans, and what a range covers
links.py      what the ranges of one shard prove, taken in one at a time
chain.py      what comes next of a shard while it is read
packing.py    many ranges that wait, in little memory
"""
