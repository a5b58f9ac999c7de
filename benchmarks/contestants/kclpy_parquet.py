"""A record processor on kclpy that writes one Parquet file a shard and second, fsyncs it, and checkpoints after it.

This is what a careful user would write without the receiver: a checkpoint never passes what is on disk. It has no
shared files, no ranges, no checksum and no ledger. Run as `kclpy_parquet.py DIRECTORY`; the files lie in
DIRECTORY/SHARD.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from amazon_kclpy import kcl, messages
from amazon_kclpy.v3 import processor

FILE_SECONDS = 1.0
COMPRESSION = "zstd"
SCHEMA = pa.schema(
    [
        ("sequence_number", pa.string()),
        ("sub_sequence_number", pa.int64()),
        ("partition_key", pa.string()),
        ("approximate_arrival_timestamp", pa.timestamp("ms", tz="UTC")),
        ("data", pa.binary()),
    ]
)


class ParquetFiles(processor.RecordProcessorBase):  # type: ignore[misc]
    """See the module's docstring."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = 0
        self._batches: list[pa.RecordBatch] = []
        self._since = 0.0
        self._last: tuple[str, int] | None = None

    def initialize(self, initialize_input: messages.InitializeInput) -> None:
        """Make the shard's directory."""
        self._directory /= initialize_input.shard_id
        self._directory.mkdir(parents=True, exist_ok=True)

    def process_records(self, process_records_input: messages.ProcessRecordsInput) -> None:
        """Keep the records; write them when the first of them is a second old."""
        records = process_records_input.records
        try:
            if records:
                if not self._batches:
                    self._since = time.monotonic()
                self._batches.append(
                    pa.record_batch(
                        [
                            pa.array([record.sequence_number for record in records], SCHEMA.field(0).type),
                            pa.array([record.sub_sequence_number for record in records], SCHEMA.field(1).type),
                            pa.array([record.partition_key for record in records], SCHEMA.field(2).type),
                            pa.array([record.timestamp_millis for record in records], SCHEMA.field(3).type),
                            pa.array([record.binary_data for record in records], SCHEMA.field(4).type),
                        ],
                        schema=SCHEMA,
                    )
                )
                self._last = records[-1].sequence_number, records[-1].sub_sequence_number
            if self._batches and time.monotonic() - self._since >= FILE_SECONDS:
                self._store(process_records_input.checkpointer)
        except Exception:  # noqa: BLE001 - it ends the process
            # kclpy would report the batch as processed.
            traceback.print_exc()
            sys.exit(1)

    def shutdown_requested(self, shutdown_requested_input: messages.ShutdownRequestedInput) -> None:
        """Write what is left."""
        try:
            if self._batches:
                self._store(shutdown_requested_input.checkpointer)
        except Exception:  # noqa: BLE001 - it ends the process
            traceback.print_exc()
            sys.exit(1)

    def lease_lost(self, lease_lost_input: messages.LeaseLostInput) -> None:
        """What is not written will be read by the next owner."""

    def shard_ended(self, shard_ended_input: messages.ShardEndedInput) -> None:
        """Write what is left, and let KCL go on to the children."""
        try:
            if self._batches:
                self._store(shard_ended_input.checkpointer)
            shard_ended_input.checkpointer.checkpoint()
        except Exception:  # noqa: BLE001 - it ends the process
            traceback.print_exc()
            sys.exit(1)

    def _store(self, checkpointer: kcl.Checkpointer) -> None:
        self._files += 1
        path = self._directory / f"{os.getpid()}-{self._files:06d}.parquet"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            # Dictionaries are tried at a cost, and nothing here repeats: the same setting as the receiver's.
            pq.write_table(
                pa.Table.from_batches(self._batches, SCHEMA), file, compression=COMPRESSION, use_dictionary=False
            )
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._batches.clear()
        if self._last is not None:
            checkpointer.checkpoint(*self._last)


if __name__ == "__main__":
    kcl.KCLProcess(ParquetFiles(Path(sys.argv[1]))).run()
