"""Makes a large store as a receiver would leave it after days, in minutes: for the benchmarks of what reads stores.

    python -m benchmarks.make_store /tmp/store --blocks 20000 --shards 64

One block a second. Every so often the generator is started again (a new writer, new sessions that resume at their
checkpoints), a lease is stolen (a session that resumes some records back and stores them once more, cut elsewhere, so
that ranges overlap in part), and a shard is split. Each ledger but the last one ends with a line that says so, and the
store's log has one entry: its writer is the last one, no ledger before that is needed. Ledgers are true: numbers,
hashes, ends. With `--ledger-only` there are no blocks, and the checksums in the ledger are made up.

Nothing is fsynced: this is no way to store anything.
"""

from __future__ import annotations

import argparse
import random
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

from kcl_receiver.ids import block_id, day_of, writer_id
from kcl_receiver.ranges import TRIM_HORIZON, After, Forgotten, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.layout import block_path, ledger_path
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Entry,
    SessionStarted,
    ShardEnded,
    WriterStarted,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, began
from kcl_receiver.store.store import open_store
from kcl_receiver.wire.columns import Columns, VarColumn, checksum

BEGAN = 1_790_035_200_000  # 2026-09-22T00:00:00Z
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", BEGAN - 86_400_000)
SEQUENCE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
STEP = 7_919  # sequence numbers are sparse
MAX_LINES = 10_000


@dataclass(slots=True)
class Lease:
    """A shard and who reads it."""

    shard: str
    base: int
    born: int
    next: int = 0
    session: str = ""
    after: After = TRIM_HORIZON
    rank: int = 0
    parents: tuple[str, ...] = ()

    def position(self, record: int) -> Position:
        """Return the position of a record."""
        return Position(self.base + record * STEP)


@dataclass(slots=True)
class Made:
    """What came out."""

    blocks: int = 0
    ranges: int = 0
    records: int = 0
    ledgers: int = 0
    sessions: int = 0
    stolen: int = 0
    splits: int = 0
    ledger_bytes: int = 0
    block_bytes: int = 0
    distinct: dict[str, int] = field(default_factory=dict)


class Maker:
    """See the module."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root, self.options, self.random = root, options, random.Random(options.seed)
        self.made = Made()
        self.now = BEGAN
        self.leases: list[Lease] = []
        self.shards = 0
        self.reached: dict[str, Forgotten] = {}
        self.forgotten: dict[str, Forgotten] = {}
        self.lines = bytearray()
        self.dirs: set[Path] = set()
        for _ in range(options.shards):
            self.add_shard(())

    def add_shard(self, parents: tuple[str, ...]) -> Lease:
        """Add an open shard."""
        lease = Lease(f"shardId-{self.shards:012d}", SEQUENCE + self.shards * 10**40, self.now, parents=parents)
        self.shards += 1
        self.leases.append(lease)
        return lease

    def make(self) -> Made:
        """Make the store."""
        store = open_store(self.root)
        store.claim("benchmark")
        self.begin_writer()
        for number in range(self.options.blocks):
            self.now = BEGAN + number * 1000
            restart = number and number % self.options.restart_every == 0
            if restart or day_of(self.writer) != day_of(writer_id(self.now, "0" * 8)) or self.count >= MAX_LINES:
                self.end_writer(is_last=False)
                self.begin_writer(resume=bool(restart))
            if number and number % self.options.steal_every == 0:
                self.steal()
            if number and number % self.options.split_every == 0:
                self.split()
            self.block()
        self.end_writer(is_last=True)
        StoreLog(store).change(lambda _: began(EMPTY, self.started, (), STREAM, self.forgotten))
        return self.made

    def begin_writer(self, *, resume: bool = True) -> None:
        """Begin a ledger; `resume` begins all sessions anew."""
        self.writer = writer_id(self.now, f"{self.random.getrandbits(32):08x}")
        self.count, self.number = 0, 0
        self.last = first_prev(self.writer)
        self.started = WriterStarted(self.writer, "host", 1, self.now, "0")
        self.forgotten = dict(self.reached)
        self.append(self.started, Carried(STREAM))
        if resume:
            for lease in self.leases:
                self.begin_session(lease, back=0)

    def end_writer(self, *, is_last: bool) -> None:
        """Write the ledger."""
        if not is_last:
            self.append(Closed(self.now, self.writer))
        self.write(self.root / ledger_path(self.writer), self.lines)
        self.made.ledgers += 1
        self.made.ledger_bytes += len(self.lines)
        self.lines = bytearray()

    def write(self, path: Path, content: object) -> None:
        """Write a file, not durably."""
        if path.parent not in self.dirs:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.dirs.add(path.parent)
        path.write_bytes(content)  # type: ignore[arg-type]

    def append(self, *entries: Entry) -> None:
        """Append to the ledger."""
        lines, tail = encode_lines(entries, self.count + 1, self.last)
        self.lines += lines
        self.count, self.last = tail.number, tail.hash

    def begin_session(self, lease: Lease, back: int) -> None:
        """Let somebody read a shard from `back` records before what is stored."""
        lease.next = max(0, lease.next - back)
        lease.after = lease.position(lease.next - 1) if lease.next else TRIM_HORIZON
        lease.session = f"{self.random.getrandbits(64):016x}"
        lease.rank += 1
        self.made.sessions += 1
        self.append(
            SessionStarted(
                lease.session,
                lease.shard,
                lease.after,
                lease.rank,
                STREAM,
                lease.parents,
                ("0", str(2**128 - 1)),
                24,
                self.now,
            )
        )

    def steal(self) -> None:
        """Let another one read a shard."""
        lease = self.random.choice(self.leases)
        self.made.stolen += 1
        self.begin_session(lease, back=self.random.randint(1, 3 * self.options.records))

    def split(self) -> None:
        """Split a shard, and merge two where there are too many."""
        parent = self.leases.pop(self.random.randrange(len(self.leases)))
        last = parent.position(parent.next - 1) if parent.next else parent.after
        self.append(ShardEnded(parent.session, parent.shard, STREAM, last, self.now))
        self.made.splits += 1
        for _ in range(2):
            self.begin_session(self.add_shard((parent.shard,)), back=0)
        if len(self.leases) > self.options.shards:  # a merge of two, so that it does not grow
            ended = [self.leases.pop(0), self.leases.pop(0)]
            for one in ended:
                last = one.position(one.next - 1) if one.next else one.after
                self.append(ShardEnded(one.session, one.shard, STREAM, last, self.now))
            self.begin_session(self.add_shard(tuple(one.shard for one in ended)), back=0)

    def block(self) -> None:
        """Store a block."""
        self.number += 1
        block = block_id(self.writer, self.number)
        chosen = self.random.sample(self.leases, min(self.options.ranges, len(self.leases)))
        made = [self.range(lease) for lease in chosen]
        for one in made:
            ends = self.made.distinct
            ends[one.range.shard] = max(ends.get(one.range.shard, 0), one.range.last.sequence_number)
            reached = Forgotten(one.range.last, one.range.arrival_last)
            self.reached[one.range.shard] = max(self.reached.get(one.range.shard, reached), reached, key=_through)
        if self.options.ledger_only:
            ordered = sorted((one.range for one in made), key=lambda one: one.shard)
            rows, placed = 0, []
            for each in ordered:
                placed.append(replace(each, first_row=rows))
                rows += each.count
            size = 100 * rows
        else:
            encoded = encode_block(block, self.writer, STREAM, made, "none")
            placed, rows, size = list(encoded.ranges), encoded.rows, memoryview(encoded.payload).nbytes
            self.write(self.root / block_path(block), encoded.payload)
        self.append(BlockStored(block, STREAM, tuple(placed), rows, size, self.now))
        self.made.blocks += 1
        self.made.ranges += len(placed)
        self.made.records += rows
        self.made.block_bytes += size

    def range(self, lease: Lease) -> BlockRange:
        """Return the next records of a shard."""
        count = self.random.randint(1, 2 * self.options.records - 1)
        begin = lease.next
        positions = [lease.position(record) for record in range(begin, begin + count)]
        columns = None
        made_up = f"{self.random.getrandbits(128):032x}"
        if not self.options.ledger_only:
            columns = columns_of(begin, positions, [self.arrival(lease, begin + at) for at in range(count)])
        one = Range(
            shard=lease.shard,
            session=lease.session,
            after=lease.after,
            first=positions[0],
            last=positions[-1],
            whole=positions[-1],
            count=count,
            size=columns.size if columns else 100 * count,
            arrival_first=self.arrival(lease, begin),
            arrival_last=self.arrival(lease, begin + count - 1),
            checksum=checksum(columns) if columns else made_up,
            delivered=self.arrival(lease, begin + count - 1),
        )
        lease.next += count
        lease.after = positions[-1]
        return BlockRange(one, columns)  # type: ignore[arg-type]

    def arrival(self, lease: Lease, record: int) -> int:
        """Return when a record arrived, milliseconds since the epoch."""
        options = self.options
        return int(lease.born + record * 1000 * options.shards / (options.ranges * options.records))


def _through(one: Forgotten) -> Position:
    return one.through


def columns_of(begin: int, positions: list[Position], arrivals: list[int]) -> Columns:
    """Return records of about 100 bytes each, which are the same whenever they are delivered."""
    numbers = range(begin, begin + len(positions))
    return Columns(
        count=len(positions),
        sequence=VarColumn.of([str(one.sequence_number).encode() for one in positions]),
        sub=array("q", [0] * len(positions)),
        key=VarColumn.of([b"key-%d" % number for number in numbers]),
        arrival=array("q", arrivals),
        data=VarColumn.of([b"%0100d" % number for number in numbers]),
    )


def main(arguments: list[str] | None = None, *, quiet: bool = False) -> Made:
    """Make a store and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="an absolute path; nothing may be there")
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--ranges", type=int, default=16, help="shards that have records in one block")
    parser.add_argument("--records", type=int, default=4, help="records of a range, on average")
    parser.add_argument("--restart-every", type=int, default=1_000, help="blocks")
    parser.add_argument("--steal-every", type=int, default=100, help="blocks")
    parser.add_argument("--split-every", type=int, default=2_500, help="blocks")
    parser.add_argument("--ledger-only", action="store_true", help="no blocks")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.root.exists():
        parser.error(f"{options.root} exists")
    made = Maker(options.root, options).make()
    if not quiet:
        print({name: getattr(made, name) for name in Made.__slots__ if name != "distinct"})
    return made


if __name__ == "__main__":
    main()
