"""The wire and the files under hostile bytes: what scripts/fuzz runs, and its short form for the tests."""
