"""Reads lost records again from Kinesis, and proves that they are the ones that were stored.

kpl_message.py   the protobuf message of a KPL aggregate, as protobuf-java reads it
deaggregate.py   a Kinesis record to the user records that KCL delivers of it
rebuild.py       one range: its records to columns, and the judgement on them
lane.py          one shard: where to read, and when to stop
pace.py          the limits of the service
plan.py          which shard is next, and how much is under way
calls.py         the calls for one shard, and what their errors mean
fetch.py         `Rereader`: the threads; what all below use
damages.py       what is missing and damaged, kept on disk, and what cannot be known
restore.py       `Restorer`: new blocks in the place of damaged ones
sources.py       a `Rereader` for each stream that a store has had
warning.py       what is lost and about to be trimmed
fallback.py      `KinesisFallback`: what a reader gets where a block is missing
question.py      what is asked of the stream about a shard that is stored, and what it answers
compare.py       one shard of the stream against its ranges, record by record
walk.py          one shard from its beginning on
against.py       `Against`: the threads around them; what `verify --against-stream` uses
"""
