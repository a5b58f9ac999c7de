"""Puts batches of all shards into blocks, stores them, and reports what is stored."""
