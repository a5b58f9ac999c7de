"""The generator as a process: socket, store, ledger, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from generator_process import SHARD, STREAM, GeneratorProcess, Peer, batch, hello, mounted
from store_support import local_store

from kcl_receiver.audit.verify import POSSIBLY_TRIMMED, verify_store
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STORE,
    EXIT_STREAM,
    EXIT_USAGE,
)
from kcl_receiver.generator.client import ask_status
from kcl_receiver.ranges import Position
from kcl_receiver.wire.frames import HEADER, MAGIC, MAX_PAYLOAD
from kcl_receiver.wire.messages import (
    CODES,
    PROTOCOL_VERSION,
    Batch,
    Draining,
    Flush,
    Hello,
    Hold,
    Leave,
    Progress,
    Refused,
    ShardEnd,
    ShardEndConfirmed,
    Stored,
    Welcome,
)

Make = Callable[..., GeneratorProcess]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: run as root, sudo ./scripts/test")


def test_a_batch_is_in_a_block_that_plain_pyarrow_reads_when_it_is_reported_as_stored(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([10, 11, 12])
    assert peer.expect(Stored).number == 1
    assert generator.rows() == [(SHARD, 10, 0), (SHARD, 11, 0), (SHARD, 12, 0)]
    assert len(list((generator.store / "ledger").iterdir())) == 1


def test_the_socket_is_for_its_own_user_alone(make_generator: Make) -> None:
    generator = make_generator().up()
    assert stat.S_IMODE(generator.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(generator.socket.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "FrameError"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION + 1, CODES[Hello], 4, 0), "VersionMismatch"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, 250, 4, 0), "FrameError"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Batch], 10, MAX_PAYLOAD + 1), "FrameError"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Hello], 2**31, 0), "FrameError"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Hello], 8, 0) + b"\xc1" * 8, "FrameError"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Flush], 1, 0) + b"\x80" + bytes(7), "ProtocolError"),
    ],
    ids=["http", "version", "code", "payload", "message", "content", "too early"],
)
def test_hostile_bytes_are_refused_by_name_and_harm_nobody_else(
    make_generator: Make, content: bytes, error: str
) -> None:
    generator = make_generator().up()
    good = Peer(generator.socket)
    good.greet()
    bad = Peer(generator.socket)
    bad.send_bytes(content)
    refused = bad.expect(Refused)
    assert refused.error == error
    assert bad.receive() is None
    good.hand_over([1])
    assert good.expect(Stored).number == 1


def test_a_connection_that_ends_within_a_frame_harms_nobody(make_generator: Make) -> None:
    generator = make_generator().up()
    bad = Peer(generator.socket)
    bad.send_bytes(HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Hello], 100, 0) + b"half")
    bad.close()
    good = Peer(generator.socket)
    good.greet()
    good.hand_over([1])
    assert good.expect(Stored).number == 1


def test_columns_that_are_not_those_of_the_checksum_are_never_stored(make_generator: Make) -> None:
    generator = make_generator().up()
    good = Peer(generator.socket)
    good.greet(session="good", shard="shardId-000000000001")
    peer = Peer(generator.socket)
    peer.greet()
    message, _ = batch([1, 2, 4])
    _, other = batch([1, 3, 4])
    peer.send(message, other)
    refused = peer.expect(Refused)
    assert (refused.error, "checksum" in refused.message) == ("ProtocolError", True)
    good.hand_over([1])
    assert good.expect(Stored).number == 1
    assert generator.rows() == [("shardId-000000000001", 1, 0)]


def test_a_second_generator_on_the_same_socket_is_refused_and_told_who_holds_it(make_generator: Make) -> None:
    first = make_generator().up()
    assert first.process is not None
    second = subprocess.run(
        [sys.executable, "-m", "kcl_receiver.cli.main", "generator", "--properties", str(first.properties)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **first.emulator.environment},
    )
    assert second.returncode == EXIT_ENVIRONMENT
    assert f"pid {first.process.pid}" in second.stderr
    assert ask_status(first.socket).pid == first.process.pid


def test_a_stale_socket_file_is_replaced(make_generator: Make) -> None:
    generator = make_generator()
    generator.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(generator.socket))
    generator.up()
    Peer(generator.socket).greet()


def test_a_socket_file_that_somebody_deleted_is_made_again(make_generator: Make) -> None:
    generator = make_generator().up()
    connected = Peer(generator.socket)
    connected.greet()
    generator.socket.unlink()
    generator.wait("the socket is back", generator.socket.exists)
    Peer(generator.socket).greet("s2", shard="shardId-000000000001")
    connected.hand_over([1])
    assert connected.expect(Stored).number == 1


def test_a_socket_that_cannot_be_made_again_yet_ends_nobody_who_is_connected(make_generator: Make) -> None:
    generator = make_generator().up()
    connected = Peer(generator.socket)
    connected.greet()
    generator.socket.unlink()
    generator.socket.mkdir()
    generator.wait("it is told", lambda: "listened on" in generator.log())
    connected.hand_over([1])
    assert connected.expect(Stored).number == 1
    generator.socket.rmdir()
    generator.wait("the socket is back", generator.socket.exists)
    Peer(generator.socket).greet("s2", shard="shardId-000000000001")


def test_what_a_killed_generator_had_stored_is_reported_by_the_next_one_and_not_stored_twice(
    make_generator: Make,
) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([1, 2])
    assert peer.expect(Stored).number == 1
    generator.kill()
    generator.up()
    # The processor does not know that batch 1 was stored: the report was lost.
    again = Peer(generator.socket)
    again.greet()
    again.hand_over([1, 2])
    assert again.expect(Stored).number == 1
    again.hand_over([3], number=2, after=Position(2))
    assert again.expect(Stored).number == 2
    assert generator.rows() == [(SHARD, 1, 0), (SHARD, 2, 0), (SHARD, 3, 0)]
    assert generator.status()["records_skipped"] == 2


def test_a_block_that_an_operator_deleted_is_stored_again(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([1, 2])
    peer.expect(Stored)
    generator.kill()
    for block in (generator.store / "blocks").rglob("*.parquet"):
        block.unlink()
    generator.up()
    again = Peer(generator.socket)
    again.greet()
    again.hand_over([1, 2])
    assert again.expect(Stored).number == 1
    assert generator.rows() == [(SHARD, 1, 0), (SHARD, 2, 0)]


def test_store_again_turns_skipping_off(make_generator: Make) -> None:
    generator = make_generator(receiver_storeAgain="true").up()
    for session in ("a", "b"):
        peer = Peer(generator.socket)
        peer.greet(session, rank=ord(session))
        peer.hand_over([1])
        peer.expect(Stored)
    assert generator.rows() == [(SHARD, 1, 0), (SHARD, 1, 0)]


def test_a_younger_session_fences_the_older_one(make_generator: Make) -> None:
    generator = make_generator().up()
    old = Peer(generator.socket)
    old.greet("old", rank=1)
    young = Peer(generator.socket)
    young.greet("young", rank=2)
    assert old.expect(Refused).error == "Fenced"
    back = Peer(generator.socket)
    back.send(hello("old", rank=1))
    assert back.expect(Refused).error == "Fenced"


def test_a_session_that_claims_another_pid_is_refused(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.send(Hello("landing", SHARD, "s1", 1, 1, "TRIM_HORIZON", 1))
    assert "peer has pid" in peer.expect(Refused).message


def test_a_record_of_10_mib_is_stored_through_a_window_that_is_smaller(make_generator: Make) -> None:
    generator = make_generator(receiver_windowBytes="1MiB").up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.send(*batch([1], data_bytes=10 * 2**20))
    assert [peer.receive(), peer.receive()][1] == Stored(1)
    assert generator.rows() == [(SHARD, 1, 0)]


def test_sequence_numbers_of_129_digits_are_stored(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    numbers = [10**55, 10**128, 10**129 - 1]
    peer.hand_over(numbers)
    assert peer.expect(Stored).number == 1
    assert [number for _, number, _ in generator.rows()] == numbers


def test_the_first_sigterm_stores_what_was_admitted(make_generator: Make) -> None:
    generator = make_generator(receiver_blockIntervalMillis="600000").up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([1])
    generator.signal(signal.SIGTERM)
    peer.expect(Draining)
    assert peer.expect(Stored).number == 1
    peer.close()
    assert generator.ended() == EXIT_OK
    assert generator.rows() == [(SHARD, 1, 0)]
    assert not generator.socket.exists()


def test_a_draining_generator_answers_a_new_batch_at_once(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    generator.signal(signal.SIGTERM)
    peer.expect(Draining)
    peer.send(*batch([1]))
    peer.expect(Draining)
    peer.close()
    assert generator.ended() == EXIT_OK
    assert generator.rows() == []


def test_a_second_sigterm_ends_it_at_once(make_generator: Make) -> None:
    generator = make_generator(receiver_blockIntervalMillis="600000").up()
    peer = Peer(generator.socket)
    peer.greet()
    generator.signal(signal.SIGTERM)
    peer.expect(Draining)
    generator.signal(signal.SIGINT)
    assert generator.ended() == EXIT_INTERRUPTED


def test_a_store_of_another_application_is_refused(make_generator: Make, tmp_path: Path) -> None:
    generator = make_generator()
    (generator.store).mkdir()
    (generator.store / "store.json").write_text('{"format": 1, "application": "somebody-else"}\n')
    generator.start()
    assert generator.ended() == EXIT_STORE
    assert "somebody-else" in generator.log()


def test_wrong_properties_are_named(make_generator: Make) -> None:
    generator = make_generator(receiver_blockIntervalMillis="soon")
    generator.start()
    assert generator.ended() == EXIT_USAGE
    assert "receiver.blockIntervalMillis" in generator.log()


def fill(file: Path) -> None:
    """Write a file until the disk is full."""
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))


@needs_root
def test_a_full_disk_is_waited_for_and_loses_nothing(make_generator: Make, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=2M") as disk:
        generator = make_generator(store=disk / "store").up()
        filler = disk / "filler"
        peer = Peer(generator.socket)
        peer.greet()
        fill(filler)
        peer.hand_over([1, 2, 3])
        generator.wait("the store fails", lambda: generator.status().get("failing"))
        assert "No space left" in generator.status()["failing"]["message"]
        assert generator.rows() == []
        filler.unlink()
        assert peer.expect(Stored).number == 1
        assert generator.rows() == [(SHARD, 1, 0), (SHARD, 2, 0), (SHARD, 3, 0)]
        generator.wait("nothing fails any more", lambda: generator.status().get("failing", "") is None)
        generator.kill()


@needs_root
def test_an_unwritable_store_ends_the_generator_after_the_limit_with_nothing_reported(
    make_generator: Make, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=2M") as disk:
        generator = make_generator(store=disk / "store", receiver_storeTimeoutMillis="1500").up()
        peer = Peer(generator.socket)
        peer.greet()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        peer.hand_over([1])
        assert generator.ended() == EXIT_STORE
        assert peer.receive() is None
        assert "Read-only file system" in generator.log()
        assert generator.rows() == []


def test_the_end_of_a_closed_shard_is_confirmed(make_generator: Make, emulator: Emulator) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    emulator.client("kinesis").merge_shards(
        StreamName=STREAM, ShardToMerge=SHARD, AdjacentShardToMerge="shardId-000000000001"
    )
    peer.send(ShardEnd("TRIM_HORIZON"))
    peer.expect(ShardEndConfirmed)
    assert b'"shard_end"' in b"".join(file.read_bytes() for file in (generator.store / "ledger").rglob("*.jsonl"))


def test_the_end_of_an_open_shard_is_not_confirmed(make_generator: Make) -> None:
    generator = make_generator(receiver_storeTimeoutMillis="1000").up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.send(ShardEnd("TRIM_HORIZON"))
    refused = peer.expect(Refused)
    assert refused.error == "StreamUnavailable"
    assert "open" in refused.message


def test_no_shard_end_is_confirmed_when_the_stream_was_deleted(make_generator: Make, emulator: Emulator) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    emulator.client("kinesis").delete_stream(StreamName=STREAM)
    peer.send(ShardEnd("TRIM_HORIZON"))
    assert peer.expect(Refused).error == "StreamGone"


def _replace_stream(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.delete_stream(StreamName=STREAM)
    emulator.kinesis.advance(60)
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)


def test_no_shard_end_is_confirmed_when_the_stream_was_made_again(make_generator: Make, emulator: Emulator) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    _replace_stream(emulator)
    peer.send(ShardEnd("TRIM_HORIZON"))
    assert peer.expect(Refused).error == "StreamReplaced"


def test_an_empty_stream_that_was_made_again_under_a_session_is_not_stored_as_the_old_one(
    make_generator: Make, emulator: Emulator
) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    other = Peer(generator.socket)
    other.greet("s2", shard="shardId-000000000001")
    other.hand_over([1])
    _replace_stream(emulator)
    peer.send(*batch([5, 6]))
    assert peer.expect(Refused).error == "StreamReplaced"
    assert generator.ended() == EXIT_STREAM
    assert generator.rows() == [("shardId-000000000001", 1, 0)]


def test_a_lease_table_older_than_its_stream_is_refused(make_generator: Make, emulator: Emulator) -> None:
    sequence = int(
        emulator.client("kinesis").put_record(StreamName=STREAM, PartitionKey="a", Data=b"x")["SequenceNumber"]
    )
    _replace_stream(emulator)
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.send(hello(after=Position(sequence)))
    hold = peer.expect(Hold)
    assert hold.error == "LeaseRefused"
    assert "lease table landing" in hold.hint
    other = Peer(generator.socket)
    other.greet("s2", shard="shardId-000000000001")
    other.hand_over([1])
    other.expect(Stored)
    assert [one["state"] for one in generator.status()["shards"]] == ["on hold", "open"]
    assert "LeaseRefused" in generator.log()


def test_a_shard_that_expired_while_everything_was_down_opens_possibly_trimmed_and_its_end_is_confirmed(
    make_generator: Make, emulator: Emulator
) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey=str(2**126))
    emulator.kinesis.advance(49 * 3600)
    kinesis.put_record(StreamName=STREAM, PartitionKey="a", Data=b"x")
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.send(ShardEnd("TRIM_HORIZON"))
    peer.expect(ShardEndConfirmed)
    other = Peer(generator.socket)
    other.greet("s2", shard="shardId-000000000001")
    result = subprocess.run(
        [sys.executable, "-m", "kcl_receiver.cli.main", "verify", "--store", generator.store.as_uri()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, f"{SHARD}: possibly trimmed" in result.stdout) == (EXIT_AMISS, True), result


def test_what_an_older_stream_of_the_same_name_had_stored_is_not_skipped(
    make_generator: Make, emulator: Emulator
) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([1])
    peer.expect(Stored)
    generator.kill()
    _replace_stream(emulator)
    generator.up()
    again = Peer(generator.socket)
    again.greet("s2", rank=2)
    again.hand_over([1])
    again.expect(Stored)
    assert generator.rows() == [(SHARD, 1, 0), (SHARD, 1, 0)]


def test_a_session_that_resumes_before_the_retention_is_possibly_trimmed(
    make_generator: Make, emulator: Emulator
) -> None:
    sequence = int(
        emulator.client("kinesis").put_record(StreamName=STREAM, PartitionKey="a", ExplicitHashKey="0", Data=b"x")[
            "SequenceNumber"
        ]
    )
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([sequence])
    peer.expect(Stored)
    generator.kill()
    emulator.kinesis.advance(26 * 3600)  # of 24 hours of retention
    generator.up()
    young = Peer(generator.socket)
    young.greet("s2", rank=2, after=Position(sequence))
    young.hand_over([sequence + 1], after=Position(sequence))
    young.expect(Stored)
    assert "may have been trimmed" in generator.log()
    report = verify_store(local_store(generator.store))
    assert [one.state for one in report.shards] == [POSSIBLY_TRIMMED]


def test_what_lies_before_the_checkpoint_is_not_kept_in_memory(make_generator: Make) -> None:
    generator = make_generator().up()
    peer = Peer(generator.socket)
    peer.greet()
    after: Position | str = "TRIM_HORIZON"
    for number in range(1, 6):
        peer.hand_over([number], number, after)
        assert peer.expect(Stored).number == number
        after = Position(number)
        peer.send(Progress(0, str(after)))
    assert generator.status()["ranges_in_memory"] == 2
    assert len(generator.rows()) == 5


def test_lease_lost_drops_what_is_not_cut(make_generator: Make) -> None:
    generator = make_generator(receiver_blockIntervalMillis="600000").up()
    peer = Peer(generator.socket)
    peer.greet()
    peer.hand_over([1])
    peer.send(Leave())
    assert peer.receive() is None
    generator.signal(signal.SIGTERM)
    assert generator.ended() == EXIT_OK
    assert generator.rows() == []


def test_it_waits_for_a_stream_that_cannot_be_reached_and_then_serves(make_generator: Make, emulator: Emulator) -> None:
    generator = make_generator()
    emulator.faults.set_down("*")
    generator.start()
    generator.wait("the generator answers", generator.status)
    peer = Peer(generator.socket)
    peer.send(hello())
    assert not generator.status()["prepared"]
    emulator.faults.clear()
    peer.expect(Welcome)
