"""A record processor on kclpy that looks at each record and drops it, and checkpoints once a minute.

This is the least that kclpy costs. Run as `kclpy_noop.py REPORT`: at shutdown it writes there how many records it saw,
and a digest of the first and last record of every batch, which costs nothing for each record.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

from amazon_kclpy import kcl, messages
from amazon_kclpy.v3 import processor

CHECKPOINT_SECONDS = 60.0


class Noop(processor.RecordProcessorBase):  # type: ignore[misc]
    """See the module's docstring."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._records = 0
        self._digest = hashlib.sha256()
        self._checkpointed = time.monotonic()
        self._last: tuple[str, int] | None = None

    def initialize(self, initialize_input: messages.InitializeInput) -> None:
        """Nothing is needed."""

    def process_records(self, process_records_input: messages.ProcessRecordsInput) -> None:
        """Look at each record."""
        records = process_records_input.records
        for record in records:
            _ = record.partition_key
            _ = record.sequence_number
            _ = record.binary_data
        if records:
            self._records += len(records)
            for record in (records[0], records[-1]):
                for part in (record.partition_key, record.sequence_number, str(record.sub_sequence_number)):
                    self._digest.update(part.encode() + b"\0")
                self._digest.update(record.binary_data)
            self._last = records[-1].sequence_number, records[-1].sub_sequence_number
        if self._last is not None and time.monotonic() - self._checkpointed >= CHECKPOINT_SECONDS:
            process_records_input.checkpointer.checkpoint(*self._last)
            self._checkpointed = time.monotonic()

    def shutdown_requested(self, shutdown_requested_input: messages.ShutdownRequestedInput) -> None:
        """Checkpoint, and report."""
        if self._last is not None:
            shutdown_requested_input.checkpointer.checkpoint(*self._last)
        self._report.write_text(json.dumps({"records": self._records, "digest": self._digest.hexdigest()}))

    def lease_lost(self, lease_lost_input: messages.LeaseLostInput) -> None:
        """Nothing is held."""

    def shard_ended(self, shard_ended_input: messages.ShardEndedInput) -> None:
        """Let KCL go on to the children."""
        shard_ended_input.checkpointer.checkpoint()


if __name__ == "__main__":
    kcl.KCLProcess(Noop(Path(sys.argv[1]))).run()
