"""The ledgers of a store.

entries.py       what is recorded, and the hash chain of the lines
writer.py        writing one, and entries made from footers where one is lost
reading.py       `Ledger`: what all of them say
tailing.py       a walk that goes on where it stopped
place.py         how far a walk has come, as tokens keep it
walk.py          the whole ledger while a store is verified
follow.py        the feed of changes to the blocks
takeover.py      what a new writer takes over from those before it
transaction.py   what recover, repair, compact and expire record
maintenance_log.py  in which order they did
losses.py        what is lost of ledgers
"""
