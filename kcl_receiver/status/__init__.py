"""What is read, stored and checkpointed right now."""
