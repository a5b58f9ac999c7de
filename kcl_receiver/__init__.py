"""Lands Amazon Kinesis streams as durable blocks, and never checkpoints what is not stored.

Nothing heavy is imported here: one processor runs per shard, and its start-up time and memory are paid per shard.
"""

__version__ = "0.1.0"
