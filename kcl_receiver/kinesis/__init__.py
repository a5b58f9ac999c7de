"""Reads records again from Kinesis by their ranges, and proves that they are the ones that were stored.

kpl_message.py     the protobuf message of a KPL aggregate, as protobuf-java reads it
deaggregate.py     a Kinesis record to the user records that KCL delivers of it
rebuild.py         one range: its records to columns, and the judgement on them
shard_reread.py    one shard: where to read, and when to stop
rate_limit.py      the limits of the service
plan.py            which shard is next, and how much is under way
shard_client.py    the calls for one shard, and what their errors mean
call_threads.py    the threads that make them
range_fetcher.py   `RangeFetcher`, which hands answers out
"""
