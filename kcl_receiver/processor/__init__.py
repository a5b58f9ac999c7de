"""What runs once per shard: line codec, processor, socket client."""
