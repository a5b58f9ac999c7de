"""The forms in which records leave on a stream of bytes: JSON lines, CSV, the data alone, Arrow's stream format.

The rule: every record can be had back from JSON lines and CSV byte for byte. Data that is UTF-8 is text there; other
data is base64 under another name, `data_base64`, so that nothing is guessed.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

from kcl_receiver.schema import DATA

_DATA, _DATA_BASE64 = DATA.name, f"{DATA.name}_base64"
FORMATS = ("jsonl", "csv", "raw", "arrow")


class Writer(Protocol):
    """Writes batches of one schema."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch; it may be buffered."""

    def close(self) -> None:
        """Write what ends the form. The stream stays open."""


class JsonLines:
    """An object a record, on a line of its own: the columns by their names, times as ISO 8601."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, batch: pa.RecordBatch) -> None:
        """See `Writer`."""
        names = batch.schema.names
        lines = []
        for values in zip(*_plain(batch), strict=True):
            record = dict(zip(names, values, strict=True))
            if _DATA in record:
                text, encoded = _text_or_base64(record[_DATA])
                if text is None:
                    del record[_DATA]
                    record[_DATA_BASE64] = encoded
                else:
                    record[_DATA] = text
            lines.append(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
        self._out.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """See `Writer`."""


class Csv:
    """A head line and a line a record; `data` has a second column `data_base64`, and one of the two is empty."""

    def __init__(self, out: BinaryIO, names: list[str]) -> None:
        self._out = out
        self._data = names.index(_DATA) if _DATA in names else None
        head = [*names]
        if self._data is not None:
            head.insert(self._data + 1, _DATA_BASE64)
        self._rows([head])

    def write(self, batch: pa.RecordBatch) -> None:
        """See `Writer`."""
        rows = [list(values) for values in zip(*_plain(batch), strict=True)]
        if self._data is not None:
            for row in rows:
                row[self._data : self._data + 1] = _text_or_base64(row[self._data])
        self._rows(rows)

    def close(self) -> None:
        """See `Writer`."""

    def _rows(self, rows: list[Any]) -> None:
        text = io.StringIO(newline="")
        plain = csv.writer(text, lineterminator="\n")
        quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in rows:
            # csv quotes what has its own line end in it; to others a bare carriage return is one, too.
            has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
            (quoted if has_return else plain).writerow(row)
        self._out.write(text.getvalue().encode())


class Raw:
    """The data of each record, and after each the separator."""

    def __init__(self, out: BinaryIO, separator: bytes) -> None:
        self._out = out
        self._separator = separator

    def write(self, batch: pa.RecordBatch) -> None:
        """See `Writer`."""
        self._out.write(
            b"".join(part for value in batch.column(_DATA).to_pylist() for part in (value, self._separator))
        )

    def close(self) -> None:
        """See `Writer`."""


class ArrowStream:
    """Arrow's IPC stream format: the columns as they are stored."""

    def __init__(self, out: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_stream(pa.PythonFile(_Unclosed(out), "w"), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """See `Writer`."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """See `Writer`."""
        self._writer.close()


class _Unclosed:
    """Stands before a stream, and leaves it open; what is written arrives in it at once."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, content: bytes) -> int:
        self._out.write(content)
        return len(content)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        pass

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class _Whole:
    """Stands before a raw stream, whose `write` may take a part of what it is given and say no more about it."""

    def __init__(self, out: io.RawIOBase) -> None:
        self._out = out

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        while rest:
            rest = rest[self._out.write(rest) or 0 :]
        return len(content)

    def flush(self) -> None:
        self._out.flush()


def whole_writes(out: BinaryIO) -> BinaryIO:
    """Return a stream that writes all it is given: stdout is a raw one where PYTHONUNBUFFERED is set."""
    return cast(BinaryIO, _Whole(out)) if isinstance(out, io.RawIOBase) else out


def writer_of(name: str, out: BinaryIO, schema: pa.Schema, separator: bytes = b"\n") -> Writer:
    """Return what writes one of `FORMATS`."""
    made: dict[str, Callable[[], Writer]] = {
        "jsonl": lambda: JsonLines(out),
        "csv": lambda: Csv(out, schema.names),
        "raw": lambda: Raw(out, separator),
        "arrow": lambda: ArrowStream(out, schema),
    }
    return made[name]()


def _plain(batch: pa.RecordBatch) -> list[list[Any]]:
    """Return the columns as Python values; times as text."""
    columns = []
    for column in batch.columns:
        if pa.types.is_timestamp(column.type):
            columns.append([None if one is None else _time(one) for one in column.cast(pa.int64()).to_pylist()])
        else:
            columns.append(column.to_pylist())
    return columns


def _time(micros: int) -> str:
    seconds = datetime.fromtimestamp(micros // 1_000_000, timezone.utc)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{micros // 1000 % 1000:03d}Z"


def _text_or_base64(data: bytes) -> tuple[str | None, str | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode()
