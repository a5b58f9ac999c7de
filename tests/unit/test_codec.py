"""The daemon's lines: what comes is read as kclpy reads it, what goes is what KCL's Jackson reads.

`daemon_lines.jsonl` was written by KCL 3.1.3 itself (its message classes through its ObjectMapper), and the same
program read back every line that `encode_status` and `encode_checkpoint` write.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from amazon_kclpy import kcl, messages
from amazon_kclpy.v3 import processor as v3
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.errors import DaemonError
from kcl_receiver.processor import codec
from kcl_receiver.processor.codec import decode_line, encode_checkpoint, encode_status
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.wire.columns import Columns, checksum
from kcl_receiver.wire.frames import FrameReader, batch_lengths, decode_batch, encode_batch
from kcl_receiver.wire.messages import Batch

RECORDED = (Path(__file__).parent / "daemon_lines.jsonl").read_bytes().splitlines()
START, RESUME, RECORDS, EMPTY, TAKEN, THROTTLED, TAKEN_BARE, LEASE_LOST, SHARD_ENDED, SHUTDOWN = RECORDED
BIG = 4959033827149025660855969253836157109592157598913658


@pytest.fixture(params=["by the size of the records", "as large records", "cut out"], autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """All ways of decoding have to give the same, whatever a line says."""
    before = codec.LARGE_RECORD_BYTES, codec.CUT_OUT_BYTES
    if request.param != "by the size of the records":
        codec.LARGE_RECORD_BYTES = -1
        codec.CUT_OUT_BYTES = -1 if request.param == "cut out" else 2**40
    yield request.param
    codec.LARGE_RECORD_BYTES, codec.CUT_OUT_BYTES = before


Row = tuple[str, int, bytes, bytes, int]


def record(sequence: object, sub: object = 0, key: object = "k", data: object = b"", at: object = 1) -> dict[str, Any]:
    encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {
        "data": encoded,
        "partitionKey": key,
        "sequenceNumber": str(sequence) if isinstance(sequence, int) else sequence,
        "approximateArrivalTimestamp": at,
        "subSequenceNumber": sub,
        "action": "record",
    }


def line(*records: dict[str, Any], behind: int | None = 0, ascii_only: bool = False) -> bytes:
    message = {"action": "processRecords", "records": list(records), "millisBehindLatest": behind}
    return json.dumps(message, ensure_ascii=ascii_only, separators=(",", ":")).encode()  # as Jackson does


def columns_of(text: bytes | bytearray) -> Columns:
    said = decode_line(text)
    assert isinstance(said, codec.ProcessRecords)
    assert said.columns is not None
    return said.columns


def rows(columns: Columns) -> list[Row]:
    return [
        (
            columns.sequence.value(row).decode(),
            columns.position(row).sub_sequence_number,
            columns.key.value(row),
            columns.data.value(row),
            columns.arrival_of(row),
        )
        for row in range(columns.count)
    ]


class Listener(v3.RecordProcessorBase):
    """A kclpy processor that writes down all that it is told."""

    version = 3

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def initialize(self, initialize_input: messages.InitializeInput) -> None:
        said = initialize_input
        self.heard.append(("initialize", said.shard_id, said.sequence_number, said.sub_sequence_number))

    def process_records(self, process_records_input: messages.ProcessRecordsInput) -> None:
        self.heard.append(
            [
                (
                    one.sequence_number,
                    one.sub_sequence_number,
                    one.partition_key.encode("utf-8"),
                    one.binary_data,
                    one.timestamp_millis,
                )
                for one in process_records_input.records
            ]
        )

    def lease_lost(self, lease_lost_input: messages.LeaseLostInput) -> None:
        self.heard.append("leaseLost")

    def shard_ended(self, shard_ended_input: messages.ShardEndedInput) -> None:
        self.heard.append("shardEnded")
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: messages.ShutdownRequestedInput) -> None:
        self.heard.append("shutdownRequested")
        shutdown_requested_input.checkpointer.checkpoint("123", 4)


def heard_by_kclpy(*lines: bytes) -> tuple[list[Any], list[Any]]:
    """Return what a kclpy processor is told by these lines, and the messages that kclpy writes."""
    listener = Listener()
    out, err = io.StringIO(), io.StringIO()
    text = "".join(one.decode("utf-8") + "\n" for one in lines)
    kcl.KCLProcess(listener, io.StringIO(text), out, err).run()
    assert err.getvalue() == ""
    return listener.heard, [json.loads(one) for one in out.getvalue().splitlines() if one]


def without_null_times(text: bytes) -> bytes:
    """kclpy cannot read a record without an arrival time at all."""
    message = json.loads(text)
    message["records"] = [one for one in message["records"] if one["approximateArrivalTimestamp"] is not None]
    return json.dumps(message, ensure_ascii=False).encode()


# ---------------------------------------------------------------------- what comes


@pytest.mark.parametrize("text", [START, RESUME])
def test_initialize_names_the_shard_and_the_start_as_kclpy_reads_them(text: bytes) -> None:
    said = decode_line(text)
    assert isinstance(said, codec.Initialize)
    after = said.after
    start = (after, 0) if isinstance(after, str) else (str(after.sequence_number), after.sub_sequence_number)
    assert heard_by_kclpy(text)[0] == [("initialize", said.shard, *start)]


def test_a_starting_point_stays_a_word_and_a_checkpoint_becomes_a_position() -> None:
    assert decode_line(START) == codec.Initialize("shardId-000000000003", TRIM_HORIZON)
    number = 49590338271490256608559692538361571095921575989136588898
    assert decode_line(RESUME) == codec.Initialize("shardId-000000000003", Position(number, 7))


def test_a_checkpoint_without_sub_sequence_number_means_sub_0() -> None:
    said = decode_line(b'{"action":"initialize","shardId":"s","sequenceNumber":"5","subSequenceNumber":null}')
    assert said == codec.Initialize("s", Position(5, 0))


def test_records_are_read_as_kclpy_reads_them() -> None:
    text = without_null_times(RECORDS)
    ours = rows(columns_of(text))
    assert [ours] == heard_by_kclpy(text)[0]
    assert len(ours) == 3
    assert ours[1][3] == bytes(range(256))
    assert ours[1][2] == "kéy-日😀 \"\\/\b\x01\x7f\u2028<>&'".encode()


def test_an_arrival_time_or_data_that_java_does_not_know_is_unknown_and_empty() -> None:
    last = rows(columns_of(RECORDS))[-1]
    assert last[3:] == (b"", -1)


def test_a_null_sub_sequence_number_of_a_record_means_a_plain_record() -> None:
    assert rows(columns_of(line(record(7, None))))[0][:2] == ("7", 0)


@pytest.mark.parametrize(
    ("text", "behind"), [(RECORDS, 4200), (line(record(1), behind=None), -1), (line(record(1)), 0)]
)
def test_how_far_kcl_is_behind_is_passed_on(text: bytes, behind: int) -> None:
    said = decode_line(text)
    assert isinstance(said, codec.ProcessRecords)
    assert said.behind == behind


def test_an_empty_list_has_no_columns() -> None:
    assert decode_line(EMPTY) == codec.ProcessRecords(None, -1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TAKEN, codec.CheckpointResult(None)),
        (TAKEN_BARE, codec.CheckpointResult(None)),
        (THROTTLED, codec.CheckpointResult("ThrottlingException")),
        (LEASE_LOST, codec.LeaseLost()),
        (SHARD_ENDED, codec.ShardEnded()),
        (SHUTDOWN, codec.ShutdownRequested()),
    ],
)
def test_every_other_line_of_kcl_is_understood(text: bytes, said: object) -> None:
    assert decode_line(text) == said


def with_more_fields(text: bytes) -> bytes:
    message = json.loads(text)
    message["encryptionType"] = {"kind": ["KMS", None, 1.5]}
    for one in message.get("records", []):
        one["explicitHashKey"] = "12"
        one["schema"] = {"id": None}
    return json.dumps(message).encode()


@pytest.mark.parametrize("text", RECORDED)
def test_fields_that_a_later_kcl_adds_change_nothing(text: bytes) -> None:
    assert repr(decode_line(with_more_fields(text))) == repr(decode_line(text))


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("text", RECORDED)
def test_a_line_may_lie_anywhere_in_a_buffer(kind: Callable[[bytes], bytearray], text: bytes) -> None:
    around = RECORDS + b"\n" + text + b"\n" + RECORDS
    start = len(RECORDS) + 1
    assert repr(decode_line(kind(around), start, start + len(text))) == repr(decode_line(text))


@pytest.mark.parametrize("end", range(9000, 9004))
def test_a_line_that_ends_within_data_is_refused(end: int) -> None:
    text = line(record(BIG, data=b"a" * 9000))
    with pytest.raises(DaemonError, match="can't be decoded"):
        decode_line(b"before" + text, 6, end)


@given(
    keys=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), min_size=1, max_size=6),
    data=st.lists(st.binary(max_size=200), min_size=6, max_size=6),
    ascii_only=st.booleans(),
)
def test_keys_and_data_of_every_kind_of_bytes_arrive_as_kclpy_has_them(
    keys: list[str], data: list[bytes], ascii_only: bool
) -> None:
    records = [record(BIG, sub, key, data[sub], at=sub) for sub, key in enumerate(keys)]
    text = line(*records, ascii_only=ascii_only)
    ours = rows(columns_of(text))
    assert [ours] == heard_by_kclpy(text)[0]
    assert ours == [(str(BIG), sub, key.encode(), data[sub], sub) for sub, key in enumerate(keys)]


positions = st.lists(
    st.tuples(
        st.integers(1, 129).flatmap(lambda digits: st.integers(10 ** (digits - 1), 10**digits - 1)),
        st.integers(0, 2**63 - 1),
    ),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(positions)
def test_sequence_numbers_of_any_length_keep_their_digits_and_their_order(given_: list[tuple[int, int]]) -> None:
    ordered = sorted(given_)
    columns = columns_of(line(*(record(sequence, sub) for sequence, sub in ordered)))
    assert [tuple(columns.position(row)) for row in range(columns.count)] == ordered
    assert [columns.sequence.value(row).decode() for row in range(columns.count)] == [str(one) for one, _ in ordered]


@given(positions, st.data())
def test_records_out_of_order_are_refused(given_: list[tuple[int, int]], data: st.DataObject) -> None:
    ordered = sorted(given_)
    mixed = data.draw(st.permutations(ordered + ordered[:1]))
    with pytest.raises(DaemonError, match="out of order"):
        decode_line(line(*(record(sequence, sub) for sequence, sub in mixed)))


@pytest.mark.parametrize(
    "pair",
    [
        ((9, 0), (10, 0)),
        ((99, 5), (100, 0)),
        ((10**55, 0), (10**56, 0)),
        ((10**128, 3), (10**129 - 1, 0)),
        ((10**55, 0), (10**55, 1)),
    ],
)
def test_numbers_are_ordered_as_numbers_and_not_as_text(pair: tuple[tuple[int, int], tuple[int, int]]) -> None:
    first, second = (record(*one) for one in pair)
    assert columns_of(line(first, second)).count == 2
    with pytest.raises(DaemonError, match="out of order"):
        decode_line(line(second, first))


@pytest.mark.parametrize(
    "wrong",
    [
        [record("")],
        [record("", 0), record("", 1)],
        [record("0123")],
        [record("0123"), record("0124")],
        [record("12a")],
        [record("-5")],
        [record("1"), record("²")],
        [record("1"), record("٣")],
        [record(10**129)],
        [record("TRIM_HORIZON")],
    ],
)
def test_a_record_without_a_proper_sequence_number_is_refused(wrong: list[dict[str, Any]]) -> None:
    with pytest.raises(DaemonError, match="sequence number"):
        decode_line(line(*wrong))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"action":"shutdown","reason":"ZOMBIE"}',
        b'{"action":"processRecords"}',
        b'{"action":"processRecords","records":null}',
        b'{"action":"initialize"}',
        b'{"action":"initialize","shardId":null,"sequenceNumber":"1"}',
        b'{"action":"leaseLost"',
        b'{"action":"processRecords","records":[{}]}',
        b'{"action":"checkpoint","error":"\xff"}',
        line(record(1, data="not base64!")),
        line(record(1, data="YQ")),
        line(record(1, key=None)),
        line(record(1, sub=-1)),
        line(record(1, sub=2**63)),
        line(record(1, at=2**48)),
        line(record(1, sub=1.5)),
        line(record(1))[:-10],
    ],
)
def test_a_malformed_line_is_refused_and_its_start_is_named(text: bytes) -> None:
    with pytest.raises(DaemonError) as caught:
        decode_line(text)
    assert repr(text[:80])[2:-1] in caught.value.message


@pytest.mark.parametrize("sequence", ["SHARD_END", "", "12x", "007"])
def test_a_start_at_no_position_is_refused(sequence: str) -> None:
    text = json.dumps({"action": "initialize", "shardId": "s", "sequenceNumber": sequence, "subSequenceNumber": 0})
    with pytest.raises(DaemonError, match="can't be used"):
        decode_line(text.encode())


def test_a_start_without_a_sequence_number_is_refused() -> None:
    with pytest.raises(DaemonError, match="names no sequence number"):
        decode_line(b'{"action":"initialize","shardId":"s","sequenceNumber":null,"subSequenceNumber":null}')


def test_a_long_malformed_line_is_not_repeated_in_full() -> None:
    with pytest.raises(DaemonError) as caught:
        decode_line(b"x" * 1_000_000)
    assert len(caught.value.message) < 300


def test_a_record_of_10_mib_arrives_whole() -> None:
    data = bytes(range(256)) * (10 * 1024 * 1024 // 256)
    columns = columns_of(line(record(BIG, data=data)))
    assert columns.data.value(0) == data


# ---------------------------------------------------------------------- towards the generator


def test_large_records_are_decoded_in_their_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    text = line(record(BIG, data=b"a" * 3000), record(BIG + 1, data=None), record(BIG + 2, data=b"b" * 6000))
    monkeypatch.setattr(codec, "_DECODER", None)
    columns = columns_of(text)
    assert [columns.data.value(row) for row in range(3)] == [b"a" * 3000, b"", b"b" * 6000]


class OnlyWithout:
    """A decoder that is not given data to read."""

    def __init__(self, decoder: msgspec.json.Decoder[Any]) -> None:
        self.decoder = decoder

    def decode(self, text: bytes) -> object:
        assert len(text) < 1000
        return self.decoder.decode(text)


def test_data_of_very_large_records_is_cut_out_of_the_line(
    monkeypatch: pytest.MonkeyPatch,
    way: str,  # the way that a test chooses is not for the next one
) -> None:
    monkeypatch.setattr(codec, "LARGE_RECORD_BYTES", 1200)
    monkeypatch.setattr(codec, "CUT_OUT_BYTES", 4000)
    monkeypatch.setattr(codec, "_LARGE_DECODER", OnlyWithout(codec._LARGE_DECODER))
    monkeypatch.setattr(codec, "_DECODER", None)
    large = b"a" * 6000, b"b" * 6000
    text = line(record(BIG, data=large[0], key='"data":"'), record(BIG + 1, data=b""), record(BIG + 2, data=large[1]))
    around = b"\n".join((b'{"data":"YWJj"}', text, b'{"data":"YWJj"}'))
    said = decode_line(around, 16, len(around) - 16)
    assert isinstance(said, codec.ProcessRecords)
    assert said.columns is not None
    assert [said.columns.data.value(row) for row in range(3)] == [large[0], b"", large[1]]
    assert said.columns.key.value(0) == b'"data":"'


@pytest.mark.parametrize(
    "wrong",
    [
        {"note": {"data": "YWJj"}},  # one more than there are records
        {"data": None, "note": {"data": "YWJj"}},  # as many, but not theirs
        {"data": None, "note": "x"},
        {"data": " ", "note": {"data": "YWJj"}},
    ],
)
def test_data_that_is_not_a_records_own_is_not_taken_for_it(wrong: dict[str, Any]) -> None:
    first = record(BIG, data=b"a" * 9000) | wrong
    text = line(first, record(BIG + 1, data=b"b"))
    if first["data"] == " ":
        with pytest.raises(DaemonError, match=r"records\[0\]\.data"):
            decode_line(text)
        return
    columns = columns_of(text)
    assert columns.data.value(0) == (b"" if first["data"] is None else b"a" * 9000)
    assert columns.data.value(1) == b"b"


@pytest.mark.parametrize("data", ["not base64!" * 500, 7, ["a" * 5000], {"a": "b" * 5000}, True, "YWJj\\n" * 1000])
def test_data_that_is_none_is_refused_by_name(data: object) -> None:
    with pytest.raises(DaemonError, match=r"can't be decoded .*records\[1\]\.data"):
        decode_line(line(record(BIG, data=b"a" * 9000), record(BIG + 1, data=data)))


def test_escaped_base64_is_base64() -> None:
    text = line(record(BIG, data=b"\xff" * 9000)).replace(b"/", b"\\/")
    assert columns_of(text).data.value(0) == b"\xff" * 9000


def test_the_columns_and_their_checksum_survive_the_way_over_the_socket() -> None:
    columns = columns_of(RECORDS)
    message = Batch(
        number=1,
        after=TRIM_HORIZON,
        first=str(columns.position(0)),
        last=str(columns.position(columns.count - 1)),
        whole=None,
        count=columns.count,
        arrival_first=columns.arrival_of(0),
        arrival_last=columns.arrival_of(columns.count - 1),
        behind=0,
        at=1,
        checksum=checksum(columns),
        lengths=batch_lengths(columns),
    )
    reader = FrameReader()
    frame = None
    for byte in b"".join(bytes(part) for part in encode_batch(message, columns)):
        reader.buffer()[:1] = bytes([byte])
        frame = reader.advance(1)
    assert frame is not None
    received = decode_batch(frame)
    assert rows(received.columns) == rows(columns)
    assert checksum(received.columns) == received.message.checksum


# ---------------------------------------------------------------------- what goes


@pytest.mark.parametrize("text", [START, without_null_times(RECORDS), EMPTY, LEASE_LOST])
def test_the_status_line_says_what_kclpy_says(text: bytes) -> None:
    action = decode_line(text)
    assert not isinstance(action, codec.CheckpointResult)
    written = encode_status(action)
    assert [json.loads(written)] == heard_by_kclpy(text)[1]
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1


@pytest.mark.parametrize(("text", "position"), [(SHARD_ENDED, None), (SHUTDOWN, Position(123, 4))])
def test_the_checkpoint_line_says_what_kclpy_says(text: bytes, position: Position | None) -> None:
    action = decode_line(text)
    assert not isinstance(action, codec.CheckpointResult)
    written = encode_checkpoint(position) + encode_status(action)
    assert [json.loads(one) for one in written.splitlines()] == heard_by_kclpy(text, TAKEN)[1]
    assert written.count(b"\n") == 2


@given(st.integers(0, 10**129 - 1), st.integers(0, 2**63 - 1))
def test_a_checkpoint_names_sequence_and_sub_sequence_number_exactly(sequence: int, sub: int) -> None:
    assert json.loads(encode_checkpoint(Position(sequence, sub))) == {
        "action": "checkpoint",
        "sequenceNumber": str(sequence),
        "subSequenceNumber": sub,
    }


DEEP = 100_000
"""More than the recursion that any Python allows: 3.13 lets 10,000 calls in C pass."""


@pytest.mark.parametrize(
    "text",
    [
        b"[" * DEEP,
        b'{"action":' * DEEP,
        b'{"action":"leaseLost","more":' + b"[" * DEEP + b"]" * DEEP + b"}",
    ],
    ids=["lists", "objects", "in a field that is not read"],
)
def test_a_line_of_lists_within_lists_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(DaemonError, match="can't be decoded"):
        decode_line(text)


@pytest.mark.parametrize("behind", [2**63, -(2**63) - 1, 10**30])
def test_a_lag_that_is_no_java_long_and_that_no_message_holds_is_refused(behind: int) -> None:
    with pytest.raises(DaemonError, match="millisBehindLatest"):
        decode_line(b'{"action":"processRecords","records":[],"millisBehindLatest":%d}' % behind)
