"""The formula of docs/operations.md#memory holds: a generator whose store takes nothing stays below it."""

from __future__ import annotations

import os
import re
import select
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from generator_harness import batch_message
from generator_process import GeneratorProcess, Peer
from memory_formula import MIB, generator_bytes

from kcl_receiver.emulator.server import Emulator
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.stream import boot_millis
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.wire.columns import Columns, VarColumn
from kcl_receiver.wire.messages import Admitted, Stored

BATCH_BYTES = 4 * MIB
RECORDS = 64


class Shard(Peer):
    """A processor that sends batches for as long as they are admitted."""

    def __init__(self, generator: GeneratorProcess, number: int) -> None:
        super().__init__(generator.socket)
        self.id = f"shardId-{number:012d}"
        self.sent = 0
        self.admitted = 0
        self.stored = 0
        self._after: After = TRIM_HORIZON
        self.greet(session=f"session-{number}", shard=self.id)

    def send_batch(self) -> None:
        """Send the next batch, of bytes that nothing can compress."""
        first = self.sent * RECORDS + 1
        positions = [Position(number) for number in range(first, first + RECORDS)]
        columns = Columns(
            count=RECORDS,
            sequence=VarColumn.of([str(one.sequence_number).encode() for one in positions]),
            sub=array("q", [0] * RECORDS),
            key=VarColumn.of([b"key"] * RECORDS),
            arrival=array("q", [1_795_353_301_000] * RECORDS),
            data=VarColumn.of([os.urandom(BATCH_BYTES // RECORDS - 64) for _ in positions]),
        )
        assert columns.memory <= BATCH_BYTES
        self.sent += 1
        self.send(batch_message(columns, self.sent, self._after, positions[-1], at=boot_millis()), columns)
        self._after = positions[-1]

    def listen(self) -> None:
        """Take what has come."""
        while select.select([self._socket], [], [], 0)[0]:
            message = self.receive()
            if isinstance(message, Admitted):
                self.admitted = message.number
            else:
                assert isinstance(message, Stored), message
                self.stored = message.number


def memory(generator: GeneratorProcess, word: str) -> int:
    """Return VmHWM (the most so far) or VmRSS of the generator in bytes."""
    assert generator.process is not None
    status = Path(f"/proc/{generator.process.pid}/status").read_text()
    found = re.search(rf"^{word}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    ("shards", "window", "block"),
    [(4, 16 * MIB, 64 * MIB), (8, 32 * MIB, 8 * MIB)],
    ids=["bounded by the windows", "bounded by the blocks"],
)
def test_a_generator_whose_store_takes_nothing_stays_below_the_formula(
    make_generator: Callable[..., GeneratorProcess], emulator: Emulator, shards: int, window: int, block: int
) -> None:
    emulator.client("kinesis").create_stream(StreamName="wide", ShardCount=shards)
    generator = make_generator(
        streamName="wide",
        receiver_windowBytes=str(window),
        receiver_blockMaxBytes=str(block),
        receiver_compression="none",
    ).up()
    settings = GeneratorSettings("landing", block_max_bytes=block, window_bytes=window)
    peers = [Shard(generator, number) for number in range(shards)]

    def all_stored() -> bool:
        for peer in peers:
            peer.listen()
        return all(peer.stored == peer.sent for peer in peers)

    # The first block loads what every later one needs.
    peers[0].send_batch()
    generator.wait("the first block is stored", all_stored)
    base = memory(generator, "VmRSS")
    # A file where the directory of the blocks belongs: whatever is written fails, for root as well.
    blocks, aside = generator.store / "blocks", generator.store / "aside"
    blocks.rename(aside)
    blocks.write_text("no directory")

    def all_wait() -> bool:
        waiting = {one["shard"] for one in generator.status()["shards"] if one["waiting"]}
        for peer in peers:
            peer.listen()
            if peer.admitted == peer.sent and peer.id not in waiting:
                peer.send_batch()
        return len(waiting) == shards

    generator.wait("every shard has a batch that is not admitted", all_wait)
    admitted = min(shards * window, (settings.max_in_flight + 1) * block)
    generator.wait("blocks are encoded", lambda: generator.log().count("is not stored") >= settings.max_in_flight)
    blocks.unlink()
    aside.rename(blocks)
    generator.wait("all is stored at last", all_stored)
    grown = memory(generator, "VmHWM") - base
    assert admitted < grown < generator_bytes(shards, settings, BATCH_BYTES)
