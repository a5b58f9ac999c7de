"""The emulator's own model of Kinesis Data Streams: a state machine, and the API in JSON and CBOR in front of it."""
