"""What a store, KCL's leases and the stream prove together.

verify.py           the whole store: its ledgers, twice, and a look at each block
shard.py            one shard of it
blocks.py           a look at one block, and which blocks there are
report.py           what was found
timeline.py         the same over time
recorded.py         the ranges of all ledgers, by shard, in a temporary file
leases.py           KCL's checkpoints against what is stored
stream_audit.py     what is asked of the stream about a shard, and what it answers
compare.py          one shard of the stream against its ranges, record by record
shard_scan.py       one shard from its beginning on
stream_auditor.py   `StreamAuditor`: the threads around them; what `verify --against-stream` uses
"""
