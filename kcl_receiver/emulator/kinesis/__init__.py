"""The emulator's own model of Kinesis Data Streams: a state machine, and the JSON API in front of it."""
