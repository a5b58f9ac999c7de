"""What changes blocks after they were stored: compaction and expiry. Both keep what any reader reads."""
