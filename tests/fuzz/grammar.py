"""Frames as a hostile peer writes them: true ones with something wrong, made without the code that reads them.

Nothing of `kcl_receiver.wire.frames` is used to write, since it refuses to send what the other side would refuse.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import xxhash

from fuzz.source import Source
from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.messages import CODES, PROTOCOL_VERSION, Batch, Message

HEADER = struct.Struct("<2sBBII")
OFFSETS = (0, 1, 2, -1, 7, 100, 2**31 - 1, -(2**31), 2**24)
HOSTILE_VALUES = (b"\xff", b"\x80", b"\0", b"\xc3", b"\xed\xa0\x80", b"-", b"00", "é".encode(), b"\xf4\x90\x80\x80")


def frame(body: bytes, payload: bytes, code: int) -> bytes:
    """Return a frame without fault."""
    header = HEADER.pack(b"KR", PROTOCOL_VERSION, code, len(body), len(payload))
    return header + body + bytes(-len(body) % 8) + payload


def hostile_frame(source: Source, message: Message, payload: bytes = b"") -> bytes:
    """Return a message's frame, as it should be or with something wrong."""
    code = CODES[type(message)]
    fields: dict[str, Any] = msgspec.structs.asdict(message)
    wrong = 10 + source.below(10) if source.is_wrong() else 0
    if wrong in (10, 11, 12, 13) and fields:
        name = source.pick(sorted(fields))
        fields[name] = source.changed(fields[name])
    elif wrong == 14:
        if fields and source.one_in(2):
            del fields[source.pick(sorted(fields))]
        else:
            fields[source.text()[:200]] = source.anything()
    body = _packed(fields if wrong != 15 else source.anything())
    if wrong == 16:
        body = source.damaged(body)
    elif wrong == 17:
        payload = source.damaged(payload)
    made = frame(body, payload, code)
    if wrong == 18:
        made = _with_header(source, made, code, len(body), len(payload))
    elif wrong == 19:
        made = source.damaged(made)
    return made


def _packed(value: Any) -> bytes:  # noqa: ANN401
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, RecursionError):  # MessagePack has no such integers; nesting is written by hand
        return b"\xcf" + b"\xff" * 8 if isinstance(value, int) else b"\x91" * 3000 + b"\xc0"


def _with_header(source: Source, made: bytes, code: int, message: int, payload: int) -> bytes:
    magic, version, lengths = b"KR", PROTOCOL_VERSION, [message, payload]
    what = source.below(5)
    if what == 0:
        magic = source.take(2).ljust(2, b"\0")
    elif what == 1:
        version = source.byte()
    elif what == 2:
        code = source.byte()
    else:
        place = what - 3
        lengths[place] = (lengths[place] + source.integer()) % 2**32
    return HEADER.pack(magic, version, code, *lengths) + made[HEADER.size :]


# ---------------------------------------------------------------------- batches


def columns_for(positions: Sequence[Position], data_bytes: int) -> list[bytearray]:
    """Return the eight buffers of one record for each position, in the order of a payload."""
    sequences = [str(one.sequence_number).encode() for one in positions]
    keys = [b"key-%d" % (one.sequence_number % 1000) for one in positions]
    data = [b"d" * data_bytes for _ in positions]
    count = len(positions)
    return [
        bytearray(struct.pack(f"<{count}q", *(one.sub_sequence_number for one in positions))),
        bytearray(struct.pack(f"<{count}q", *(1_795_353_301_000 + row for row in range(count)))),
        *(bytearray(_offsets(values)) for values in (sequences, keys, data)),
        *(bytearray(b"".join(values)) for values in (sequences, keys, data)),
    ]


def _offsets(values: Sequence[bytes]) -> bytes:
    out = [0]
    for value in values:
        out.append(out[-1] + len(value))
    return struct.pack(f"<{len(out)}i", *out)


def reference_checksum(columns: Sequence[bytes | bytearray]) -> str:
    """Return the checksum of docs/format.md over buffers of any content; lengths that no int32 holds wrap."""
    sub, arrival, *rest = columns
    offsets, values = rest[:3], rest[3:]
    digest = xxhash.xxh3_128()
    for column, fixed in ((0, sub), (1, arrival), (2, b"")):
        numbers = struct.unpack(f"<{len(offsets[column]) // 4}i", offsets[column][: len(offsets[column]) // 4 * 4])
        lengths = [(after - before) % 2**32 for before, after in itertools.pairwise(numbers)]
        digest.update(struct.pack(f"<{len(lengths)}I", *lengths))
        digest.update(bytes(values[column]))
        digest.update(bytes(fixed))
    return str(digest.hexdigest())


def batch_of(
    number: int, after: After, positions: Sequence[Position], columns: Sequence[bytes | bytearray], behind: int = 7
) -> Batch:
    """Return the message that describes these columns truly."""
    arrivals = struct.unpack(f"<{len(positions)}q", columns[1][: 8 * len(positions)])
    lengths = tuple(len(one) for one in columns)
    return Batch(
        number=number,
        after=str(after),
        first=str(positions[0]),
        last=str(positions[-1]),
        whole=str(positions[-1]),
        count=len(positions),
        arrival_first=arrivals[0],
        arrival_last=arrivals[-1],
        behind=behind,
        at=1,
        checksum=reference_checksum(columns),
        lengths=lengths,  # type: ignore[arg-type] # eight
    )


def hostile_batch(
    source: Source, number: int, after: After, positions: Sequence[Position]
) -> tuple[Batch, list[bytearray]]:
    """Return a batch: its columns as they should be or lying, its message true to them or not."""
    columns = columns_for(positions, source.below(24))
    message = batch_of(number, after, positions, columns)
    if not source.is_wrong():
        return message, columns
    wrong = 8 + source.below(9)
    if wrong in (8, 9):
        offsets = columns[source.pick((2, 3, 4))]
        at = 4 * source.below(len(offsets) // 4)
        offsets[at : at + 4] = struct.pack("<i", source.pick(OFFSETS))
    elif wrong in (10, 11):
        values = columns[source.pick((5, 6, 7))]
        if values:
            hostile = source.pick(HOSTILE_VALUES)
            at = source.below(len(values))
            values[at : at + len(hostile)] = hostile[: len(values) - at]
    elif wrong == 12:
        place = source.below(8)
        columns[place] = bytearray(source.damaged(bytes(columns[place])))
    elif wrong == 13:
        fixed = columns[source.below(2)]
        at = 8 * source.below(len(fixed) // 8)
        fixed[at : at + 8] = struct.pack("<q", (source.integer() + 2**63) % 2**64 - 2**63)
    elif wrong == 14:
        lengths = list(message.lengths)
        lengths[source.below(8)] += source.pick((1, -1, 8, -8, 2**31, -(2**40)))
        message = msgspec.structs.replace(message, lengths=tuple(lengths))
    elif wrong == 15:  # a batch of nothing, and true in that
        columns = [bytearray(size) for size in (0, 0, 4, 4, 4, 0, 0, 0)]
        message = msgspec.structs.replace(message, count=0)
    else:
        columns = [columns[place] for place in (1, 0, 3, 2, 4, 6, 5, 7)]
    lies = wrong == 14 or source.one_in(4)
    if not lies:  # then only what is within shows that something is wrong
        lengths_now = tuple(len(one) for one in columns)
        message = msgspec.structs.replace(message, lengths=lengths_now, checksum=reference_checksum(columns))
    return message, columns
