"""The benchmarks on the real daemon, in what needs no Java: pages, their server, pacing, the check, and the ratios."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded
from h2.settings import SettingCodes

from benchmarks import capacity, daemon
from benchmarks.harness import http2
from benchmarks.harness.cells import Result
from benchmarks.harness.check import CheckFailed
from benchmarks.harness.daemons import NOOP, NOOP_TUNED, RECEIVER, ROLES, Sample, Window, start_pages
from benchmarks.harness.fetch import PageClient, fetch
from benchmarks.harness.figures import Spread
from benchmarks.harness.keeping_up import Judged, Ramp, growth, lag
from benchmarks.harness.landed import check_blocks, check_checkpoints, check_files, digest
from benchmarks.harness.pages import Counters, Refused, Shards
from benchmarks.harness.reel import Reel, ReelSpec

SPEC = ReelSpec(size=200, rows=50, first_arrival=1_795_353_301_123)


def served(reel: Reel, serial: int, most: int = 10_000) -> list[dict[str, Any]]:
    page, count = reel.page(serial, most)
    records: list[dict[str, Any]] = json.loads(b"[" + bytes(page) + b"]")
    assert len(records) == count
    return records


# ---------------------------------------------------------------------- pages


@pytest.mark.parametrize("round_", [0, 1, 9, 10, 123_456])
def test_a_page_holds_the_records_of_its_round(round_: int) -> None:
    reel = Reel(SPEC, 3)
    reel.page(7 * SPEC.rows, 1)  # whatever was there before
    first = round_ * SPEC.rows
    for serial, record in enumerate(served(reel, first), first):
        expected = reel.record(serial)
        assert record["SequenceNumber"] == expected.sequence_number
        assert round(record["ApproximateArrivalTimestamp"] * 1000) == expected.arrival
        assert base64.b64decode(record["Data"]) == expected.data
        assert record["PartitionKey"] == expected.partition_key
        assert isinstance(json.loads(expected.data), dict)
        assert len(expected.data) == SPEC.size
        assert reel.serial(expected.sequence_number) == serial


def test_no_two_records_of_a_run_have_their_sequence_number_or_data_in_common_and_numbers_rise() -> None:
    reels = [Reel(SPEC, number) for number in range(2)]
    for reel in reels:
        numbers = [int(reel.record(serial).sequence_number) for serial in range(4 * SPEC.rows)]
        assert numbers == sorted(set(numbers))
    records = [reel.record(serial) for reel in reels for serial in range(4 * SPEC.rows)]
    assert len({record.sequence_number for record in records}) == len(records)
    assert len({record.data for record in records}) == len(records)


def test_a_page_ends_at_its_round_at_the_limit_and_at_ten_mebibytes() -> None:
    reel = Reel(SPEC, 0)
    assert reel.page(60, 10_000)[1] == 40
    assert reel.page(60, 7)[1] == 7
    assert reel.page(60, 0)[1] == 0
    assert reel.page(60, -3)[1] == 0
    assert ReelSpec(1_000, 10_000, 0).page_records == 10_000
    assert ReelSpec(2_000, 10_000, 0).page_records == 10 * 2**20 // 2_013


def test_a_sequence_number_of_another_shard_has_no_serial_number() -> None:
    with pytest.raises(ValueError, match="has no record"):
        Reel(SPEC, 0).serial(Reel(SPEC, 1).record(0).sequence_number)
    with pytest.raises(ValueError, match="no record"):
        Reel(SPEC, 0).serial("17")


# ---------------------------------------------------------------------- calls


class Clock:
    """A clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent(_: Reel) -> bool:
    return True


def call(shards: Shards, iterator: str, limit: int = 10_000) -> dict[str, Any]:
    parts = shards.records({"ShardIterator": iterator, "Limit": limit}, sent)
    answer: dict[str, Any] = json.loads(b"".join(parts))
    return answer


def make(tmp_path: Path, rate: float | None = None, clock: Callable[[], float] = time.monotonic) -> Shards:
    reels = [Reel(SPEC, number) for number in range(2)]
    return Shards(reels, Counters(tmp_path / "served", 2), rate, clock)


def test_pages_follow_each_other_by_their_iterators_without_a_hole(tmp_path: Path) -> None:
    shards = make(tmp_path)
    start = {"ShardId": "shardId-000000000001", "ShardIteratorType": "TRIM_HORIZON"}
    iterator = json.loads(shards.iterator(start))["ShardIterator"]
    seen: list[str] = []
    for _ in range(8):
        answer = call(shards, iterator, 30)
        seen += [record["SequenceNumber"] for record in answer["Records"]]
        iterator = answer["NextShardIterator"]
    reel = Reel(SPEC, 1)
    assert seen == [reel.record(serial).sequence_number for serial in range(len(seen))]
    assert len(seen) == 200
    assert Counters(tmp_path / "served", 2).read(1).through == 200
    assert Counters(tmp_path / "served", 2).read(0).through == 0


@pytest.mark.parametrize(("kind", "serial"), [("AT_SEQUENCE_NUMBER", 77), ("AFTER_SEQUENCE_NUMBER", 78)])
def test_an_iterator_begins_at_or_after_a_sequence_number(tmp_path: Path, kind: str, serial: int) -> None:
    shards = make(tmp_path)
    reel = Reel(SPEC, 0)
    asked = {
        "ShardId": reel.shard,
        "ShardIteratorType": kind,
        "StartingSequenceNumber": reel.record(77).sequence_number,
    }
    iterator = json.loads(shards.iterator(asked))["ShardIterator"]
    assert call(shards, iterator)["Records"][0]["SequenceNumber"] == reel.record(serial).sequence_number


def test_what_cannot_be_answered_is_refused(tmp_path: Path) -> None:
    shards = make(tmp_path)
    for asked in (
        {"ShardId": "shardId-000000000009", "ShardIteratorType": "TRIM_HORIZON"},
        {"ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST"},
        {"ShardId": "shardId-000000000000", "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "1"},
    ):
        with pytest.raises(Refused):
            shards.iterator(asked)
    with pytest.raises(Refused):
        call(shards, "what")


def test_a_page_is_not_altered_while_it_is_sent(tmp_path: Path) -> None:
    shards = make(tmp_path)

    def unsent(_: Reel) -> bool:
        return False

    shards.records({"ShardIterator": "shardId-000000000000:0"}, unsent)
    shards.records({"ShardIterator": "shardId-000000000000:10"}, unsent)  # of the same round: nothing is altered
    with pytest.raises(RuntimeError, match="before had left"):
        shards.records({"ShardIterator": "shardId-000000000000:50"}, unsent)


def test_a_paced_shard_has_what_was_written_by_now(tmp_path: Path) -> None:
    clock = Clock()
    shards = make(tmp_path, 100.0, clock)
    counters = Counters(tmp_path / "served", 2)
    counters.active = 1
    iterator = "shardId-000000000000:0"
    answer = call(shards, iterator)
    assert (answer["Records"], answer["MillisBehindLatest"]) == ([], 0)
    clock.now += 0.2
    answer = call(shards, iterator)
    assert (len(answer["Records"]), answer["MillisBehindLatest"]) == (20, 0)
    clock.now += 1.0
    answer = call(shards, answer["NextShardIterator"], 10)
    assert (len(answer["Records"]), answer["MillisBehindLatest"]) == (10, 900)
    assert counters.written(100.0, clock.now + 1) == pytest.approx([220.0, 0.0])
    assert [one.through for one in counters.all()] == [30, 0]


def test_a_shard_that_is_not_written_to_gets_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    clock = Clock()
    shards = make(tmp_path, 100.0, clock)
    counters = Counters(tmp_path / "served", 2)
    counters.active = 2
    iterators = ["shardId-000000000000:0", "shardId-000000000001:0"]

    def later(seconds: float, limit: int = 10_000) -> list[int]:
        clock.now += seconds
        answers = [call(shards, iterator, limit) for iterator in iterators]
        iterators[:] = [answer["NextShardIterator"] for answer in answers]
        return [len(answer["Records"]) for answer in answers]

    assert later(0) == [0, 0]
    assert later(0.3, 5) == [5, 5]
    counters.active = 1
    assert later(1.0, 5) == [5, 5]
    assert later(0.0) == [40, 20]
    assert counters.written(100.0, clock.now + 1) == pytest.approx([230.0, 30.0])
    counters.active = 2
    assert later(1.0, 50) == [50, 0]
    assert later(0.1, 20) == [20, 10]


# ---------------------------------------------------------------------- HTTP/2


class Peer:
    """A client by the library h2, which checks every rule; joined to our server's side without a socket."""

    def __init__(self, window: int) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = http2.Connection()
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.bodies: dict[int, bytes] = {}
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.ended: list[int] = []

    def ask(self, body: bytes) -> int:
        stream: int = self.client.get_next_available_stream_id()
        headers = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "x"), ("x-amz-target", "T")]
        self.client.send_headers(stream, headers)
        self.client.send_data(stream, body, end_stream=True)
        return stream

    def to_server(self) -> list[http2.Request]:
        # Byte by byte: frames come in pieces.
        return [one for byte in self.client.data_to_send() for one in self.server.receive(bytes((byte,)))]

    def to_client(self, most: int = 2**20) -> int:
        pieces = self.server.take(most)
        for event in self.client.receive_data(b"".join(pieces)):
            if isinstance(event, ResponseReceived):
                self.headers[event.stream_id] = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.ended.append(event.stream_id)
        return len(pieces)


@pytest.mark.parametrize("window", [65_535, 512 * 1024])
def test_large_bodies_keep_to_the_windows_and_come_whole(window: int) -> None:
    peer = Peer(window)
    bodies = [bytes([number]) * 300_000 + b"end" for number in range(3)]
    streams = [peer.ask(b"body") for _ in bodies]
    requests = peer.to_server()
    assert [(one.stream, one.headers["x-amz-target"], one.body) for one in requests] == [
        (stream, "T", b"body") for stream in streams
    ]
    for stream, body in zip(streams, bodies, strict=True):
        peer.server.respond(stream, 200, "text/plain", [b"", body[:7], memoryview(body)[7:]], stream)
    for _ in range(100):
        peer.to_client(100_000)
        assert peer.to_server() == []
    assert [peer.bodies[stream] for stream in streams] == bodies
    assert sorted(peer.ended) == streams
    assert peer.headers[streams[0]][b":status"] == b"200"
    assert not list(peer.server.unsent())


def test_an_answer_without_a_body_ends_its_stream() -> None:
    peer = Peer(65_535)
    stream = peer.ask(b"")
    peer.to_server()
    peer.server.respond(stream, 400, "text/plain", [], 1)
    peer.to_client()
    assert (peer.ended, peer.headers[stream][b":status"]) == ([stream], b"400")


def test_what_is_not_http2_is_told() -> None:
    with pytest.raises(http2.BrokenPeer):
        http2.Connection().receive(b"GET / HTTP/1.1\r\n\r\n")


def test_pages_come_over_a_socket_and_are_counted(tmp_path: Path) -> None:
    spec = ReelSpec(200, 500, 1_795_353_301_123)
    process, url = start_pages(tmp_path, "http://127.0.0.1:1", 2, spec, None)
    try:
        with PageClient(url) as client:
            body, length = client.call("GetRecords", b'{"ShardIterator":"shardId-000000000001:700"}')
        records = json.loads(body)["Records"]
        assert len(body) == length
        reel = Reel(spec, 1)
        expected = [reel.record(serial).sequence_number for serial in range(700, 1000)]
        assert [record["SequenceNumber"] for record in records] == expected
        fetched = fetch(url, ["shardId-000000000000"], 0.01)
        assert fetched.records == Counters(tmp_path / "served", 2).read(0).through > 0
    finally:
        process.terminate()
        process.wait()


# ---------------------------------------------------------------------- the check

Rows = list[dict[str, Any]]


def rows_of(reel: Reel, serials: range) -> Rows:
    return [
        {
            "sequence_number": record.sequence_number,
            "sub_sequence_number": 0,
            "partition_key": record.partition_key,
            "approximate_arrival_timestamp": record.arrival,
            "data": record.data,
            "shard_id": reel.shard,
        }
        for record in map(reel.record, serials)
    ]


def write(path: Path, rows: Rows) -> Path:
    schema = pa.schema(
        [
            ("sequence_number", pa.string()),
            ("sub_sequence_number", pa.int64()),
            ("partition_key", pa.string()),
            ("approximate_arrival_timestamp", pa.timestamp("ms", tz="UTC")),
            ("data", pa.binary()),
            ("shard_id", pa.string()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def test_blocks_that_hold_a_prefix_of_every_shard_pass(tmp_path: Path) -> None:
    reels = [Reel(SPEC, number) for number in range(3)]
    # In any order, over rounds, and with shards mixed in a block; nothing of the third.
    first = write(tmp_path / "1.parquet", rows_of(reels[1], range(40, 120)) + rows_of(reels[0], range(10)))
    second = write(tmp_path / "2.parquet", rows_of(reels[1], range(40)))
    found = check_blocks(reels, [first, second])
    assert found == {reels[0].shard: 10, reels[1].shard: 120, reels[2].shard: 0}
    assert check_files(reels[1:2], {reels[1].shard: [second]}) == {reels[1].shard: 40}


def missing(rows: Rows) -> None:
    del rows[3]


def twice(rows: Rows) -> None:
    rows.append(rows[3])


def other_key(rows: Rows) -> None:
    rows[3]["partition_key"] = "device-?"


def other_arrival(rows: Rows) -> None:
    rows[3]["approximate_arrival_timestamp"] += 1


def other_sub(rows: Rows) -> None:
    rows[3]["sub_sequence_number"] = 1


def other_start(rows: Rows) -> None:
    rows[3]["data"] = b"[" + rows[3]["data"][1:]


def other_mark(rows: Rows) -> None:
    rows[3]["data"] = rows[3]["data"][:15] + b"000000009" + rows[3]["data"][24:]


def other_end(rows: Rows) -> None:
    rows[3]["data"] = rows[3]["data"][:-1] + b"]"


def longer(rows: Rows) -> None:
    rows[3]["data"] += b"]"


def other_number(rows: Rows) -> None:
    rows[3]["sequence_number"] = rows[3]["sequence_number"][:-1] + "x"


def other_shard(rows: Rows) -> None:
    rows[3]["sequence_number"] = "1" + rows[3]["sequence_number"][1:]


@pytest.mark.parametrize(
    "fault",
    [
        missing,
        twice,
        other_key,
        other_arrival,
        other_sub,
        other_start,
        other_mark,
        other_end,
        longer,
        other_number,
        other_shard,
    ],
)
def test_a_fault_in_one_record_is_found(tmp_path: Path, fault: Callable[[Rows], None]) -> None:
    reel = Reel(SPEC, 0)
    rows = rows_of(reel, range(70))
    fault(rows)
    path = write(tmp_path / "1.parquet", rows)
    with pytest.raises(CheckFailed):
        check_blocks([reel], [path])
    with pytest.raises(CheckFailed):
        check_files([reel], {reel.shard: [path]})


def test_a_checkpoint_must_be_at_the_last_record() -> None:
    reel = Reel(SPEC, 0)
    check_checkpoints([reel], {reel.shard: 70}, {reel.shard: reel.record(69).sequence_number})
    check_checkpoints([reel], {reel.shard: 0}, {reel.shard: "TRIM_HORIZON"})
    for checkpoint in (reel.record(70).sequence_number, reel.record(68).sequence_number, "TRIM_HORIZON"):
        with pytest.raises(CheckFailed, match="checkpointed"):
            check_checkpoints([reel], {reel.shard: 70}, {reel.shard: checkpoint})


def test_a_digest_is_of_the_first_and_last_record_of_every_reel() -> None:
    reel = Reel(SPEC, 0)
    made = hashlib.sha256()
    for serial in (0, 49, 50, 99):
        record = reel.record(serial)
        made.update(record.partition_key.encode() + b"\0" + record.sequence_number.encode() + b"\x000\0" + record.data)
    assert digest(reel, 100) == made.hexdigest()


# ---------------------------------------------------------------------- figures


def window(records: int, cpu: dict[str, float], peak: int, seconds: float = 10.0) -> Window:
    begin = Sample(100.0, 1_000, 2_000, dict.fromkeys(cpu, 5.0), {})
    end = Sample(
        100.0 + seconds,
        1_000 + records,
        3_000 + records,
        {role: 5.0 + used for role, used in cpu.items()},
        {"JVM": peak},
    )
    return Window(begin, end)


def test_a_window_counts_what_is_between_its_two_ends_and_charges_the_contestant_alone() -> None:
    seen = window(2_000_000, {"JVM": 8.0, "processors": 3.0, "generator": 1.0, "page server": 7.0, "emulator": 9.0}, 99)
    assert (seen.seconds, seen.records, seen.rate) == (10.0, 2_000_000, 200_000.0)
    assert (seen.cpu(), seen.cpu_per_million()) == (12.0, 6.0)
    assert (seen.cpu_per_million("JVM"), seen.cpu("page server"), seen.peak("JVM")) == (4.0, 7.0, 99)
    assert seen.under_way == 2_000
    assert Window.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_ratios_are_made_within_a_repeat_and_spark_is_held_against_the_no_op_too() -> None:
    runs = [
        {"repeat": repeat, "way": way.name, "window": window(records, {"JVM": cpu}, peak).to_json()}
        for repeat, way, records, cpu, peak in (
            (0, NOOP, 1_000_000, 10.0, 1000),
            (0, RECEIVER, 1_500_000, 9.0, 300),
            (0, NOOP_TUNED, 1_000_000, 8.0, 500),
            (1, RECEIVER, 3_000_000, 9.0, 300),
            (1, NOOP, 2_000_000, 10.0, 1000),
        )
    ]
    figures = {"runs": runs, "ceiling": {"rate": 2_000_000.0, "cpu": 0.1}, "size": 200}
    text = daemon.tables([Result("200 B, 4 shards", "chosen", {}, {}, "", 0.0, figures)])
    assert "| kcl_receiver / kclpy no-op, plain launch | 1.50 | 0.600 | 0.300 | 0.955 |" in text
    # Only in the repeat where both ran.
    assert "| kclpy no-op, tuned launch / kclpy no-op, plain launch | 1.00 | 0.800 | 0.500 | - |" in text
    assert "Parquet" not in text
    assert daemon.against_spark(Spread(0.5, 0.53, 0.6), 1_000).middle == pytest.approx(0.53 / (26.5 / 40))


def test_another_contestant_is_the_first_at_every_repeat() -> None:
    firsts = [daemon.in_turn(repeat)[0] for repeat in range(4)]
    assert set(firsts) == set(daemon.WAYS)
    assert all(set(daemon.in_turn(repeat)) == set(daemon.WAYS) for repeat in range(4))


def test_the_head_of_a_frame_has_its_length_in_three_bytes() -> None:
    assert http2.head(0x12345, 0, 1, 7) == struct.pack(">I", 0x12345)[1:] + b"\x00\x01" + struct.pack(">I", 7)


# ---------------------------------------------------------------------- capacity


def test_lag_is_in_seconds_of_writing_and_the_mean_of_the_shards_that_are_written_to() -> None:
    assert lag([500.0, 300.0, 0.0], [100, 100, 0], active=2, rate=100.0) == 3.0
    # A count that was read later than the clock is ahead, and makes up for no other shard.
    assert lag([100.0, 300.0], [200, 100], active=2, rate=100.0) == 1.0


def test_lag_grows_if_its_last_third_is_above_its_first() -> None:
    assert growth([1.0, 1.2, 9.0, 9.0, 1.1, 1.3]) == pytest.approx(0.1)
    assert growth([1.0, 2.0, 3.0, 4.0]) == 3.0
    with pytest.raises(ValueError, match="looks"):
        growth([1.0, 2.0])


def judged(shards: int, growth: float, lag: float = 1.0) -> Judged:
    return Judged(shards, 60.0, growth, lag, dict.fromkeys(ROLES, 0.25), 1.9)


def test_a_number_of_shards_is_kept_up_with_if_the_lag_neither_grows_nor_is_that_of_an_overload() -> None:
    assert judged(8, 0.6).kept_up
    assert not judged(8, 0.61).kept_up
    assert judged(8, -3.0).kept_up
    assert not judged(8, -3.0, lag=5.1).kept_up
    assert capacity.capacity_of([judged(24, 5.0), judged(16, 0.1)]) == 16
    assert capacity.capacity_of([judged(24, 5.0)]) == 0


def test_a_ramp_ends_when_too_many_are_written_to_and_knows_how_many_were_kept_up_with() -> None:
    ramp = Ramp(8, 4, 64)
    asked = []
    for seen in (1.2, 1.9, 2.1):
        asked.append(ramp.shards)
        ramp.look(seen)
    assert (asked, ramp.over, ramp.kept_up) == ([8, 12, 16], True, 12)


def test_a_ramp_ends_at_the_most_and_may_find_that_not_even_the_first_was_kept_up_with() -> None:
    ramp = Ramp(8, 4, 10)
    ramp.look(1.0)
    assert (ramp.shards, ramp.over) == (10, False)
    ramp.look(1.0)
    assert (ramp.kept_up, ramp.over) == (10, True)
    ramp = Ramp(8, 4, 10)
    ramp.look(9.0)
    assert (ramp.kept_up, ramp.over) == (0, True)


def test_capacities_are_compared_within_a_repeat_and_a_limit_of_the_benchmark_is_said() -> None:
    runs = [
        {"repeat": 0, "way": NOOP.name, "judged": [judged(24, 5.0).to_json(), judged(20, 0.1).to_json()]},
        {"repeat": 0, "way": RECEIVER.name, "judged": [judged(30, 0.1).to_json()]},
    ]
    text = capacity.tables([Result("1 KB", "chosen", {}, {}, "", 0.0, {"runs": runs})])
    assert "| 1 | kcl_receiver / kclpy no-op, plain launch | 30 / 20 | 1.50 |" in text
    assert "| kcl_receiver | 30 | yes, and no more were tried |" in text
    assert "| kclpy no-op, plain launch | 24 | no |" in text
    assert "| kclpy no-op, plain launch | 20 | yes |" in text
    assert "Parquet" not in text


class Played:
    """A run whose lag is what a machine would show that keeps up with so many shards."""

    def __init__(self, limit: int, monkeypatch: pytest.MonkeyPatch, wrong_by: int = -4) -> None:
        self.limit = limit
        self.wrong_by = wrong_by
        self.counters = SimpleNamespace(active=0)
        self.seen: list[int] = []
        monkeypatch.setattr(capacity, "_lag", lambda _: 9.0 if self.counters.active > limit else 1.0)
        monkeypatch.setattr(capacity, "_drain", lambda *_: None)
        monkeypatch.setattr(capacity, "judge", self.judge)

    def pass_time(self, _: float) -> None:
        """Nothing passes."""

    def judge(self, _: object, shards: int, seconds: float) -> Judged:
        """Find some that the ramp took for possible to be too many, or some more to be possible."""
        assert self.counters.active == shards
        self.seen.append(shards)
        return Judged(shards, seconds, 9.0 if shards > self.limit + self.wrong_by else 0.0, 1.0, {}, 1.9)


def test_fewer_shards_are_judged_if_those_of_the_ramp_were_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"most": 64, "first": 16, "step": 4, "step_seconds": 0.0, "judged": 60.0, "tries": 3}
    run: Any = Played(32, monkeypatch)
    found = capacity.find(run, plan)
    assert run.seen == [32, 30, 28]  # by half a step of the ramp
    assert capacity.capacity_of(found) == 28
    run = Played(32, monkeypatch)
    capacity.find(run, {**plan, "tries": 1})
    assert run.seen == [32]


def test_more_shards_are_judged_if_those_of_the_ramp_were_kept_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"most": 64, "first": 16, "step": 4, "step_seconds": 0.0, "judged": 60.0, "tries": 6}
    run: Any = Played(32, monkeypatch, wrong_by=3)
    found = capacity.find(run, plan)
    assert run.seen == [32, 34, 36]  # and not 34 again
    assert capacity.capacity_of(found) == 34
    run = Played(64, monkeypatch, wrong_by=3)
    capacity.find(run, plan)
    assert run.seen == [64]
