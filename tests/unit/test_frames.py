from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from generator_harness import batch_message, columns_of, over_the_wire
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.errors import FrameError, ProtocolError, VersionMismatch
from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import Buffer, checksum
from kcl_receiver.wire.frames import (
    MAX_MESSAGE,
    MAX_PAYLOAD,
    NO_PAYLOADS,
    Frame,
    FrameReader,
    batch_lengths,
    decode_batch,
    encode,
    encode_batch,
)
from kcl_receiver.wire.messages import (
    CODES,
    PROTOCOL_VERSION,
    Batch,
    Flush,
    Hello,
    Message,
    Progress,
    Refused,
    Status,
    Stored,
)

HELLO = Hello("landing", "shardId-000000000000", "session", 123, 42, "TRIM_HORIZON", 1)
RECORDS = columns_of([Position(9), Position(10, 0), Position(10, 1), Position(10**128)])


def joined(parts: Iterable[Buffer]) -> bytes:
    return b"".join(bytes(memoryview(part).cast("B")) for part in parts)


def feed(reader: FrameReader, raw: bytes, step: int = 1 << 30) -> list[Frame]:
    """Return the frames that `raw` completes, given to the reader in pieces of at most `step` bytes."""
    frames = []
    while raw:
        place = reader.buffer()
        taken = min(len(place), len(raw), step)
        assert taken > 0
        place[:taken] = raw[:taken]
        raw = raw[taken:]
        frame = reader.advance(taken)
        if frame is not None:
            frames.append(frame)
    return frames


def read(raw: bytes, step: int = 1 << 30) -> list[Frame]:
    """Return the frames in `raw`, which ends with a whole one."""
    reader = FrameReader()
    frames = feed(reader, raw, step)
    assert not reader.within_frame, "the frame is not complete"
    return frames


def frame(
    body: bytes,
    payload: bytes = b"",
    *,
    kind: type[Message] = Hello,
    magic: bytes = b"KR",
    version: int = PROTOCOL_VERSION,
    code: int | None = None,
    lengths: tuple[int, int] | None = None,
    padding: bytes | None = None,
) -> bytes:
    """Return a frame made by hand from docs/protocol.md, so that any part of it can be wrong."""
    message, rest = lengths or (len(body), len(payload))
    header = struct.pack("<2sBBII", magic, version, CODES[kind] if code is None else code, message, rest)
    return header + body + (bytes(-len(body) % 8) if padding is None else padding) + payload


def packed(**fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


FIELDS: dict[str, Any] = msgspec.structs.asdict(HELLO)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        application=st.text(),
        shard=st.text(),
        session=st.text(),
        rank=st.integers(0, 2**63 - 1),
        pid=st.integers(0, 2**31),
        after=st.text(),
        next_number=st.integers(0, 2**62),
    ),
    st.builds(Progress, behind=st.integers(-1, 2**62), checkpoint=st.none() | st.text()),
    st.builds(Refused, error=st.text(), message=st.text(), hint=st.text()),
    st.builds(Stored, number=st.integers(0, 2**62)),
    st.just(Flush()),
)


# ---------------------------------------------------------------------- frames


def test_the_header_is_as_documented() -> None:
    body = msgspec.msgpack.encode(HELLO)
    assert joined(encode(HELLO)) == frame(body)
    assert joined(encode(Status(), (b"{}",))) == frame(packed(kind="json"), b"{}", kind=Status)


def test_every_message_has_a_code_of_its_own() -> None:
    assert set(CODES) == set(Message.__subclasses__())
    assert len(set(CODES.values())) == len(CODES)


@given(st.lists(messages, max_size=5), st.integers(1, 40))
def test_messages_come_out_as_they_went_in_whatever_the_pieces(sent: list[Message], step: int) -> None:
    raw = b"".join(joined(encode(one)) for one in sent)
    assert [one.message for one in read(raw, step)] == sent


@given(st.binary(max_size=100))
def test_a_payload_comes_out_as_it_went_in(payload: bytes) -> None:
    (got,) = read(joined(encode(Status(), (payload[:3], payload[3:]))))
    assert bytes(got.payload) == payload


def test_a_frame_cut_at_any_byte_is_no_frame_until_the_rest_comes() -> None:
    raw = joined(encode_batch(batch_message(RECORDS), RECORDS))
    for cut in range(1, len(raw)):
        reader = FrameReader()
        assert not reader.within_frame
        assert feed(reader, raw[:cut]) == []
        assert reader.within_frame
        (got,) = feed(reader, raw[cut:])
        assert not reader.within_frame
        assert decode_batch(got).columns.position(3) == Position(10**128)


def test_the_reader_never_asks_for_a_byte_of_the_next_frame() -> None:
    first, second = joined(encode(Flush())), joined(encode(HELLO))
    reader = FrameReader()
    taken = 0
    got = None
    while got is None:
        place = reader.buffer()
        place[:] = (first + second)[taken : taken + len(place)]
        taken += len(place)
        got = reader.advance(len(place))
    assert (taken, got.message) == (len(first), Flush())


@pytest.mark.parametrize("magic", [b"kr", b"K\0", b"GE", b"\0\0"])
def test_what_does_not_begin_with_the_magic_is_not_this_protocol(magic: bytes) -> None:
    with pytest.raises(FrameError, match="not a frame of kcl_receiver") as caught:
        read(frame(packed(**FIELDS), magic=magic))
    assert "receiver.socket" in caught.value.hint


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 255])
def test_another_version_is_refused_with_both_numbers_before_its_lengths_are_believed(version: int) -> None:
    with pytest.raises(VersionMismatch, match=f"version {version} .* speaks {PROTOCOL_VERSION}") as caught:
        read(frame(b"", version=version, code=250, lengths=(2**32 - 1, 2**32 - 1)))
    assert "restart the generator" in caught.value.hint


def test_an_unknown_code_is_refused() -> None:
    for code in set(range(256)) - set(CODES.values()):
        with pytest.raises(FrameError, match=f"unknown message code {code}"):
            read(frame(b"", code=code))


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        (Hello, (MAX_MESSAGE + 1, 0)),
        (Hello, (2**32 - 1, 0)),
        (Hello, (10, 1)),
        (Flush, (1, 2**32 - 1)),
        (Batch, (10, MAX_PAYLOAD + 1)),
        (Batch, (10, 2**32 - 1)),
        (Status, (10, MAX_PAYLOAD + 1)),
    ],
)
def test_a_length_beyond_its_bound_is_refused_before_memory_is_taken_for_it(
    kind: type[Message], lengths: tuple[int, int]
) -> None:
    raw = frame(b"", kind=kind, lengths=lengths)
    assert len(raw) == 12
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="beyond the bound"):
            read(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@pytest.mark.parametrize(("kind", "lengths"), [(Hello, (MAX_MESSAGE, 0)), (Batch, (MAX_MESSAGE, MAX_PAYLOAD))])
def test_lengths_at_their_bounds_are_taken(kind: type[Message], lengths: tuple[int, int]) -> None:
    reader = FrameReader()
    reader.buffer()[:] = frame(b"", kind=kind, lengths=lengths)
    assert reader.advance(12) is None
    assert len(reader.buffer()) == sum(lengths)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (Refused("StoreError", "x" * MAX_MESSAGE, ""), ()),
        (HELLO, (b"x",)),
        (Status(), (bytes(MAX_PAYLOAD), b"x")),
    ],
)
def test_what_the_other_side_would_not_take_is_not_sent(message: Message, payload: tuple[bytes, ...]) -> None:
    with pytest.raises(FrameError, match="beyond the bound"):
        encode(message, payload)


@pytest.mark.parametrize("place", range(-len(msgspec.msgpack.encode(HELLO)) % 8))
def test_padding_that_is_not_zero_is_refused(place: int) -> None:
    body = packed(**FIELDS)
    padding = bytearray(-len(body) % 8)
    padding[place] = 1
    with pytest.raises(FrameError, match="padding"):
        read(frame(body, padding=bytes(padding)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        packed(**FIELDS) + b"\x00",
        packed(**FIELDS)[:-1],
        packed(**FIELDS, extra=1),
        packed(**{name: value for name, value in FIELDS.items() if name != "rank"}),
        packed(**{**FIELDS, "rank": "123"}),
        packed(**{**FIELDS, "rank": None}),
        packed(**{**FIELDS, "rank": 1.5}),
        packed(**{**FIELDS, "shard": 7}),
        packed(**{**FIELDS, "shard": b"shard"}),
        packed(**FIELDS).replace(b"landing", b"land\xffng"),
        msgspec.msgpack.encode([*FIELDS.values()]),
        b"\x91" * 40_000,
    ],
)
def test_a_message_that_is_not_what_its_code_says_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="a Hello message that can't be decoded"):
        read(frame(body))


# ---------------------------------------------------------------------- batches


def changed(**changes: object) -> Frame:
    """Return the frame of a batch whose message says something else than its columns."""
    return over_the_wire(msgspec.structs.replace(batch_message(RECORDS), **changes), RECORDS)


@given(
    st.lists(
        st.builds(Position, st.integers(0, 10**129 - 1), st.integers(0, 100)), min_size=1, max_size=20, unique=True
    ),
    st.integers(0, 50),
)
def test_a_batch_comes_out_as_it_went_in(positions: list[Position], data_bytes: int) -> None:
    sent = columns_of(sorted(positions), data_bytes)
    message = batch_message(sent, number=3)
    got = decode_batch(over_the_wire(message, sent))
    assert got.message == message
    assert (got.first, got.last, got.whole, got.after) == (min(positions), max(positions), None, "TRIM_HORIZON")
    assert [bytes(one) for one in got.columns.buffers()] == [bytes(one) for one in sent.buffers()]
    assert checksum(got.columns) == message.checksum


def test_the_columns_of_a_received_batch_are_aligned_views_and_no_copies() -> None:
    got = changed()
    for buffer in decode_batch(got).columns.buffers():
        assert isinstance(buffer, memoryview)
        assert buffer.obj is got.payload.obj
    assert (len(got.payload.obj) - len(got.payload)) % 8 == 0  # type: ignore[arg-type]


def test_another_message_is_no_batch() -> None:
    with pytest.raises(ProtocolError, match="not Flush"):
        decode_batch(Frame(Flush(), memoryview(b"")))


@pytest.mark.parametrize("count", [0, -1, 3, 5, 2**62])
def test_a_count_that_contradicts_the_columns_is_refused(count: int) -> None:
    with pytest.raises(FrameError, match="batch 1"):
        decode_batch(changed(count=count))


def test_an_empty_batch_is_refused_though_its_columns_are_well_formed() -> None:
    nothing = columns_of([])
    message = msgspec.structs.replace(batch_message(RECORDS), count=0, lengths=batch_lengths(nothing))
    with pytest.raises(FrameError, match="batch 1 has 0 records"):
        decode_batch(over_the_wire(message, nothing))


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("by", [1, -1, -(2**40), 2**40])
def test_lengths_that_contradict_the_payload_are_refused(which: int, by: int) -> None:
    lengths = list(batch_lengths(RECORDS))
    lengths[which] += by
    with pytest.raises(FrameError, match="contradict"):
        decode_batch(changed(lengths=tuple(lengths)))


@pytest.mark.parametrize("less", [5, 6])
def test_a_byte_moved_from_one_column_to_the_next_is_found_by_the_offsets(less: int) -> None:
    lengths = list(batch_lengths(RECORDS))
    lengths[less] -= 1
    lengths[less + 1] += 1
    with pytest.raises(FrameError, match="the offsets of column"):
        decode_batch(changed(lengths=tuple(lengths)))


def test_a_negative_length_that_makes_the_sum_right_is_refused() -> None:
    lengths = list(batch_lengths(RECORDS))
    lengths[6] += lengths[7] + 1
    lengths[7] = -1
    with pytest.raises(FrameError, match="the lengths of its columns contradict"):
        decode_batch(changed(lengths=tuple(lengths)))


@pytest.mark.parametrize("column", [2, 3, 4])
@pytest.mark.parametrize("place", [0, 4])
def test_offsets_that_do_not_span_their_column_are_refused(column: int, place: int) -> None:
    got = changed()
    start = sum(batch_lengths(RECORDS)[:column]) + 4 * place
    (offset,) = struct.unpack_from("<i", got.payload, start)
    struct.pack_into("<i", got.payload, start, offset + 1)
    with pytest.raises(FrameError, match="the offsets of column"):
        decode_batch(got)


def test_a_batch_of_a_frame_without_payload_is_refused() -> None:
    with pytest.raises(FrameError, match="contradict"):
        decode_batch(Frame(batch_message(RECORDS), memoryview(b"")))


@pytest.mark.parametrize(
    "changes",
    [
        {"first": "x"},
        {"last": "01"},
        {"whole": "SHARD_END"},
        {"after": "latest"},
        {"after": ""},
        {"first": "9" * 130},
    ],
)
def test_a_malformed_position_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ProtocolError, match="batch 1: not a"):
        decode_batch(changed(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"after": "9:0"},
        {"after": "10"},
        {"after": "9:5"},
        {"after": "1" + "0" * 128},
        {"first": "1" + "0" * 128, "last": "9:0"},
    ],
)
def test_positions_out_of_order_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ProtocolError, match="not in order"):
        decode_batch(changed(**changes))


@pytest.mark.parametrize("whole", ["8", "8:9", "1" + "0" * 127 + "1"])
def test_a_whole_position_outside_of_the_batch_is_refused(whole: str) -> None:
    with pytest.raises(ProtocolError, match="lies outside"):
        decode_batch(changed(whole=whole))


@pytest.mark.parametrize("whole", [None, "9:0", "10:1", "1" + "0" * 128])
def test_a_whole_position_within_the_batch_is_taken(whole: str | None) -> None:
    got = decode_batch(changed(whole=whole, after="8:7"))
    assert (None if got.whole is None else got.whole.sequence_number) == (
        None if whole is None else int(whole.partition(":")[0])
    )
    assert got.after == Position(8, 7)


@pytest.mark.parametrize("changes", [{"first": "8:0"}, {"first": "9:1"}, {"last": "10:1"}, {"last": "9" * 129}])
def test_a_batch_whose_ends_are_not_those_of_its_columns_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ProtocolError, match=r"its columns run from 9:0 to 10+:0"):
        decode_batch(changed(**changes))


def test_a_batch_whose_first_sequence_number_is_not_a_number_is_refused() -> None:
    got = changed()
    start = sum(batch_lengths(RECORDS)[:5])
    got.payload[start : start + 1] = b"x"
    with pytest.raises(ProtocolError, match="batch 1: not a Kinesis sequence number"):
        decode_batch(got)


def test_a_batch_of_one_record_may_begin_and_end_at_the_same_position() -> None:
    one = columns_of([Position(5, 2)])
    got = decode_batch(over_the_wire(batch_message(one, after=Position(5, 1), whole=Position(5, 2)), one))
    assert got.first == got.last == got.whole == Position(5, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 2**63},
        {"pid": 2**64 - 1},
        {"next_number": 2**62 + 1},
        {"next_number": -1},
        {"next_number": 2**64 - 1},
    ],
    ids=str,
)
def test_a_number_that_could_not_be_counted_on_or_sent_again_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(FrameError, match="a Hello message that can't be decoded"):
        read(frame(packed(**{**FIELDS, **change})))


@pytest.mark.parametrize("kind", [Batch, Status])
def test_a_payload_that_may_not_come_now_is_refused_before_memory_is_taken_for_it(kind: type[Message]) -> None:
    reader = FrameReader(NO_PAYLOADS)
    reader.buffer()[:] = frame(b"", kind=kind, lengths=(10, MAX_PAYLOAD))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=f"a {kind.__name__} with {MAX_PAYLOAD} bytes of payload may not come"):
            reader.advance(12)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@pytest.mark.parametrize("change", [{"arrival_first": 5}, {"arrival_last": -1}], ids=str)
def test_arrival_times_that_are_not_those_of_the_columns_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ProtocolError, match="arrival times"):
        decode_batch(changed(**change))
