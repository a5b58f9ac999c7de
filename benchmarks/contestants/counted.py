"""The kclpy contestants under the real daemon, which gives every child the same command: told apart by their shards.

Run as `counted.py noop|parquet DIRECTORY`. The number of records processed stands in DIRECTORY/counts/SHARD, 8 bytes
that whoever measures can read at any moment; it is written once a batch, and costs nothing for each record.
"""

from __future__ import annotations

import mmap
import struct
import sys
from pathlib import Path

from amazon_kclpy import kcl, messages
from kclpy_noop import Noop  # type: ignore[import-not-found]
from kclpy_parquet import ParquetFiles  # type: ignore[import-not-found]

COUNT = struct.Struct("=q")


class Count:
    """A number in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(COUNT.pack(0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), COUNT.size)
        self._value = 0

    def add(self, more: int) -> None:
        """Make it greater."""
        self._value += more
        COUNT.pack_into(self._map, 0, self._value)


class CountedNoop(Noop):  # type: ignore[misc]
    """The no-op."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._base = directory

    def initialize(self, initialize_input: messages.InitializeInput) -> None:
        """Learn the shard."""
        super().initialize(initialize_input)
        shard = initialize_input.shard_id
        self._report = self._base / "reports" / f"{shard}.json"
        self._report.parent.mkdir(parents=True, exist_ok=True)
        self._count = Count(self._base / "counts" / shard)

    def process_records(self, process_records_input: messages.ProcessRecordsInput) -> None:
        """Look at each record, and count."""
        super().process_records(process_records_input)
        self._count.add(len(process_records_input.records))


class CountedParquet(ParquetFiles):  # type: ignore[misc]
    """A Parquet file a shard and second."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "files")
        self._base = directory

    def initialize(self, initialize_input: messages.InitializeInput) -> None:
        """Learn the shard."""
        super().initialize(initialize_input)
        self._count = Count(self._base / "counts" / initialize_input.shard_id)

    def process_records(self, process_records_input: messages.ProcessRecordsInput) -> None:
        """Keep the records, and count."""
        super().process_records(process_records_input)
        self._count.add(len(process_records_input.records))


PROCESSORS = {"noop": CountedNoop, "parquet": CountedParquet}

if __name__ == "__main__":
    kcl.KCLProcess(PROCESSORS[sys.argv[1]](Path(sys.argv[2]))).run()
