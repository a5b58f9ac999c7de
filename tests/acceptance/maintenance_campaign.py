"""A store under maintenance that is killed again and again: processes of the command line, SIGKILL, and a follower.

Records are put into the emulator's Kinesis, and landed from there by this process as a generator would: real blocks, a
ledger, restarts. Meanwhile blocks are damaged, and compact, recover and repair run and are killed: at a random time, or
when something appears or goes in the store. What is found there right after a kill tells in which phase it struck.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from recovery_support import User, columns_of, range_of
from store_support import local_store, root_of

from kcl_receiver import aws
from kcl_receiver.emulator.kpl import UserRecord, aggregate
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.entries import BlockStored, Carried, SessionStarted, WriterStarted, decode_ledger
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, began
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store

STREAM = "orders"
APPLICATION = "landing"
PATIENCE = 120.0
LOOK = 0.001
"""Seconds between two looks at a store in which something is awaited."""

Record = tuple[int, int, bytes]
"""Sequence number, sub-sequence number, data."""

PUT, COMMITTED, RETIRED, BEFORE, DONE = "put", "committed", "retired", "before", "done"
"""Where a kill struck: new blocks in no ledger; a new ledger, and old blocks still there; a new ledger, and all that it
replaces gone; nothing to be seen yet; or too late, the command had ended."""


class Source:
    """The stream, and what KCL would deliver of each shard."""

    def __init__(self, emulator: Emulator, rng: random.Random, count: int) -> None:
        self.kinesis = emulator.client("kinesis")
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        self.rng = rng
        self.users: dict[str, dict[int, list[tuple[str, bytes]]]] = defaultdict(dict)
        shards = [*aws.list_shards(self.kinesis, STREAM)]
        self.hash_ranges = {one.id: one.hash_range for one in shards}
        entries: list[dict[str, Any]] = []
        holds: list[list[tuple[str, bytes]]] = []
        for number in range(count):
            low, high = map(int, rng.choice(shards).hash_range)
            place, key = rng.randint(low, high), f"kéy-{number}"
            users = [(key, b"%d:" % number + rng.randbytes(rng.randrange(60)))]
            data = users[0][1]
            if rng.random() < 0.3:
                users = [(f"{key}-{sub}", b"%d.%d" % (number, sub)) for sub in range(rng.randint(1, 4))]
                data = aggregate(UserRecord(name, each, place) for name, each in users)
            entries.append({"Data": data, "PartitionKey": key, "ExplicitHashKey": str(place)})
            holds.append(users)
        for start in range(0, count, 500):
            answer = self.kinesis.put_records(StreamName=STREAM, Records=entries[start : start + 500])
            assert not answer["FailedRecordCount"]
            for result, users in zip(answer["Records"], holds[start : start + 500], strict=True):
                self.users[result["ShardId"]][int(result["SequenceNumber"])] = users
        self.identity = aws.describe_stream(self.kinesis, STREAM).identity

    def delivered(self, shard: str) -> list[list[User]]:
        """Return what is delivered of a shard, the user records of each Kinesis record together."""
        arrivals: dict[int, int] = {}
        iterator = self.kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        at = iterator["ShardIterator"]
        while at:
            page = self.kinesis.get_records(ShardIterator=at)
            for one in page["Records"]:
                arrivals[int(one["SequenceNumber"])] = round(one["ApproximateArrivalTimestamp"].timestamp() * 1000)
            at = page.get("NextShardIterator") if page["Records"] or page["MillisBehindLatest"] else None
        return [
            [(sequence, sub, arrivals[sequence], key, data) for sub, (key, data) in enumerate(users)]
            for sequence, users in sorted(self.users[shard].items())
        ]


class Landing:
    """Lands the stream as generators do that are started again and again."""

    def __init__(self, root: Path, source: Source) -> None:
        self.store = local_store(root)
        self.store.claim(APPLICATION)
        self.source = source
        self.rng = source.rng
        self.waiting = {shard: source.delivered(shard) for shard in sorted(source.hash_ranges)}
        self.landed: dict[str, list[Record]] = {shard: [] for shard in self.waiting}
        self._after: dict[str, Position] = {}
        self._began = int(time.time() * 1000) - 3_600_000
        self._generation = 0
        self._blocks = 0
        self.files: set[str] = set()
        self._ledger = self._begin()

    def _begin(self) -> LedgerWriter:
        self._generation += 1
        self._blocks = 0
        log = StoreLog(self.store)
        taken = take_over(self.store, log)
        found, ended = taken.state, [*taken.state.living]
        ledger = LedgerWriter(self.store, writer_id(self._began + 1000 * self._generation))
        now, stream = int(time.time() * 1000), self.source.identity
        for old, last in taken.closing(self.store, ledger.writer, now):
            old.append(last)
        started = WriterStarted(ledger.writer, "host", 1, now, "0")
        log.change(lambda state: began(found if state == EMPTY else state, started, ended, stream, found.forgotten))
        ledger.append(
            [
                started,
                Carried(stream),
                *(
                    SessionStarted(
                        session=f"{shard}-{self._generation}",
                        shard=shard,
                        after=self._after.get(shard, TRIM_HORIZON),
                        rank=self._generation,
                        stream=stream,
                        parents=(),
                        hash_range=hash_range,
                        retention_hours=24,
                        time=now,
                    )
                    for shard, hash_range in self.source.hash_ranges.items()
                ),
            ]
        )
        return ledger

    def restart(self) -> None:
        """End the generator, as if it had been killed, and start another one."""
        self._ledger = self._begin()

    def land(self, blocks: int, *, recorded: bool = True) -> None:
        """Store blocks; those that are not recorded are stored by a generator that is killed before it can."""
        for _ in range(blocks):
            parts = [one for shard in self.waiting if (one := self._range(shard)) is not None]
            assert parts, "more is to be landed than was put"
            self._blocks += 1
            block, stream = block_id(self._ledger.writer, self._blocks), self.source.identity
            encoded = encode_block(block, self._ledger.writer, stream, parts, "zstd")
            self.files.add(f"{block}.parquet")
            self.store.put_block(block, encoded.payload)
            if recorded:
                size, now = memoryview(encoded.payload).nbytes, int(time.time() * 1000)
                self._ledger.append([BlockStored(block, stream, encoded.ranges, encoded.rows, size, now)])

    def _range(self, shard: str) -> BlockRange | None:
        count = self.rng.randint(1, 6)
        users = [user for one in self.waiting[shard][:count] for user in one]
        del self.waiting[shard][:count]
        if not users:
            return None
        made = replace(
            range_of(users, shard),
            session=f"{shard}-{self._generation}",
            after=self._after.get(shard, TRIM_HORIZON),
            whole=Position(*users[-1][:2]),
        )
        self._after[shard] = made.last
        self.landed[shard] += [(sequence, sub, data) for sequence, sub, _, _, data in users]
        return BlockRange(made, columns_of(users))

    def damage(self, share: float) -> int:
        """Take away or spoil a share of the blocks that count; return how many.

        What a killed compaction left and no ledger knows does not count: damaged, nobody can say what it was.
        """
        entries = list(self.entries())
        gone = {old for entry in entries for old in entry.replaces}
        known = {entry.block for entry in entries}
        present = [block for block, _ in self.store.list_blocks()]
        blocks = [one for one in present if one not in gone and (one in known or f"{one}.parquet" in self.files)]
        chosen = self.rng.sample(blocks, max(1, int(share * len(blocks))))
        for block in chosen:
            path = root_of(self.store) / block_path(block)
            content = bytearray(path.read_bytes())
            kind = self.rng.choice(["gone", "gone", "cut", "flip"])
            path.unlink()
            if kind == "cut":
                path.write_bytes(content[: self.rng.randrange(len(content))])
            elif kind == "flip":
                content[self.rng.randrange(4, len(content) // 2)] ^= 0x40
                path.write_bytes(content)
        return len(chosen)

    def spoil_ledger(self) -> str:
        """Alter a byte of a ledger, of which the generator that wrote it has ended; return whose it is."""
        writer = self.rng.choice(self.store.writers())
        path = next(one for one in root_of(self.store).glob(f"ledger/**/{writer}.jsonl"))
        content = bytearray(path.read_bytes())
        content[self.rng.randrange(len(content))] ^= 0x01
        path.write_bytes(content)
        return writer

    def entries(self) -> Iterator[BlockStored]:
        """Yield what maintenance recorded of blocks."""
        for day in self.store.maintenance_days():
            for writer, content in self.store.maintenance_ledgers(day):
                yield from (one for one in decode_ledger(writer, content).entries if isinstance(one, BlockStored))


class Follower:
    """`kcl-receiver read --follow`, killed and started again; holds its output against the token file.

    What is promised: the token file is written after the output was flushed, at most once a second. So what a killed
    follower has written is at least what the token says; the next one goes on just after the token, and what the killed
    one had written beyond it comes again, the same records in the same order. Ended by SIGTERM, nothing is beyond it.
    """

    def __init__(self, store: Store, directory: Path, emulator: Emulator, rng: random.Random) -> None:
        self._store = store
        self._directory = directory
        self._endpoint = emulator.url
        self._environment = {**os.environ, **emulator.environment}
        self._rng = rng
        self._token = directory / "token.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._output = directory / "none"
        self.taken: dict[str, list[Record]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self._beyond: dict[str, list[Record]] = {}

    def start(self, *, fallback: bool = False) -> None:
        """Start it; with `fallback` it reads what is lost from the stream."""
        self.counts["starts"] += 1
        self._output = self._directory / f"follower-{self.counts['starts']}.jsonl"
        options = ["--fallback", "kinesis", "--endpoint-url", self._endpoint] if fallback else []
        with self._output.open("wb") as out, (self._directory / "follower.log").open("ab") as log:
            self._process = subprocess.Popen(
                command("read", "--store", self._store.url, "--follow", "--token-file", str(self._token), *options),
                stdout=out,
                stderr=log,
                env=self._environment,
            )

    def ensure(self) -> None:
        """Start it again if it has ended at a block that is lost just now."""
        if self._process is None or self._process.poll() is not None:
            self.stop(signal.SIGKILL)
            self.start(fallback=self._rng.random() < 0.5)

    def kill_while_it_writes(self) -> None:
        """Kill it when its output grows, and its token file is a moment behind."""
        size = self._output.stat().st_size
        until = time.monotonic() + 10.0
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            if self._output.stat().st_size > size:
                break
            time.sleep(LOOK)
        self.stop(signal.SIGKILL)

    def stop(self, how: signal.Signals) -> None:
        """End it and judge what it wrote."""
        if self._process is None:
            return
        ended = self._process.poll()
        if ended is None:
            self._process.send_signal(how)
        code = self._process.wait(PATIENCE)
        self._process = None
        self.counts["killed" if code == -9 else "block lost" if code == 4 else "stopped"] += 1
        assert code in (-9, 0, 4), (code, (self._directory / "follower.log").read_text()[-2000:])
        beyond = self._judge()
        if code == 0:
            assert not beyond, "it ended in order, and its token file is behind its output"

    def discard(self) -> None:
        """End it whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _judge(self) -> dict[str, list[Record]]:
        through = self._positions()
        wrote: dict[str, list[Record]] = defaultdict(list)
        for line in self._output.read_bytes().split(b"\n")[:-1]:  # the last piece is empty, or torn by the kill
            shard, record = parse_record(line)
            wrote[shard].append(record)
        beyond = {}
        for shard in {*wrote, *self._beyond}:
            again = self._beyond.get(shard, [])
            shared = min(len(again), len(wrote[shard]))
            assert wrote[shard][:shared] == again[:shared], "what comes again is not what came before"
            self.counts["again"] += shared
            reached = through.get(shard, (-1, 0))
            sure = [one for one in wrote[shard] if one[:2] <= reached]
            assert [*self.taken[shard], *sure][-1:] == [] or reached <= ([*self.taken[shard], *sure][-1][:2])
            self.taken[shard] += sure
            rest = wrote[shard][len(sure) :]
            beyond[shard] = rest if len(rest) >= len(again) - len(sure) else again[len(sure) :]
        self._beyond = {shard: rest for shard, rest in beyond.items() if rest}
        return {shard: wrote[shard][-1:] for shard in self._beyond if wrote[shard]}

    def _positions(self) -> dict[str, tuple[int, int]]:
        if not self._token.exists():
            return {}
        found = {}
        for shard, text in json.loads(self._token.read_bytes())["positions"].items():
            sequence, _, sub = text.partition(":")
            found[shard] = int(sequence), int(sub)
        return found

    def wait_for(self, expected: dict[str, list[Record]]) -> None:
        """Wait until it has written all that is expected, then end it in order."""
        until = time.monotonic() + PATIENCE
        left = sum(map(len, expected.values())) - sum(map(len, self.taken.values()))
        while self._output.read_bytes().count(b"\n") < left and time.monotonic() < until:
            assert self._process is not None
            assert self._process.poll() is None, (self._directory / "follower.log").read_text()[-2000:]
            time.sleep(0.1)
        self.stop(signal.SIGTERM)


def parse_record(line: bytes) -> tuple[str, Record]:
    """Return shard and record of a line of jsonl."""
    raw = json.loads(line)
    data = base64.b64decode(raw["data_base64"]) if "data_base64" in raw else raw["data"].encode()
    return raw["shard_id"], (int(raw["sequence_number"]), raw["sub_sequence_number"], data)


def command(*arguments: str) -> list[str]:
    """Return the command line of kcl-receiver."""
    return [sys.executable, "-m", "kcl_receiver.cli.main", *arguments]


class Campaign:
    """All of it together.

    Attributes:
        phases: How often a kill struck in which phase, by command.
        spoiled: The writers whose ledgers were altered.
    """

    def __init__(self, directory: Path, emulator: Emulator, seed: int, records: int) -> None:
        self.rng = random.Random(seed)
        self.directory = directory
        self.emulator = emulator
        self.landing = Landing(directory / "store", Source(emulator, self.rng, records))
        self.store = self.landing.store
        self.follower = Follower(self.store, directory, emulator, self.rng)
        self.phases: dict[str, Counter[str]] = defaultdict(Counter)
        self.spoiled: set[str] = set()
        self.environment = {**os.environ, **emulator.environment}

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.follower.discard()

    def arguments(self, name: str) -> list[str]:
        """Return the arguments of a command."""
        more = {
            "compact": ["--target-bytes", "24KiB", "--min-age", "0s"],
            "recover": ["--endpoint-url", self.emulator.url],
            "repair": ["--yes"],
        }
        return [name, "--store", self.store.url, *more[name]]

    def run(self, name: str, *, codes: Iterable[int] = (0,)) -> str:
        """Run a command to its end; return its output."""
        done = subprocess.run(
            command(*self.arguments(name)), capture_output=True, text=True, env=self.environment, timeout=PATIENCE
        )
        assert done.returncode in codes, (name, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def strike(self, name: str, at: str, *, landing: bool = False) -> str:
        """Run a command, kill it, and return the phase in which that was.

        Args:
            name: The command.
            at: What to wait for: `time`, a random one; `block`, `ledger`, that some appear; `gone`, that blocks go.
            landing: Let the generator store blocks meanwhile.
        """
        before = self._look()
        with (self.directory / "struck.log").open("ab") as log:
            process = subprocess.Popen(command(*self.arguments(name)), stdout=log, stderr=log, env=self.environment)
        count = self.rng.randint(1, {"block": 2, "gone": 3}.get(at, 1))
        until = time.monotonic() + (self.rng.uniform(0.3, 2.5) if at == "time" else PATIENCE)
        while process.poll() is None and time.monotonic() < until:
            if at != "time":
                blocks, ledgers = self._look()
                seen = {
                    "block": len(blocks - before[0] - self.landing.files),
                    "ledger": len(ledgers - before[1]),
                    "gone": len(before[0] - blocks),
                }[at]
                if seen >= count:
                    break
            if landing and self.rng.random() < 0.003:
                self.landing.land(1)
            time.sleep(LOOK)
        process.kill()
        code = process.wait(PATIENCE)
        assert code in (-9, 0, 1), (name, code, (self.directory / "struck.log").read_text()[-2000:])
        phase = DONE if code != -9 else self._phase(before)
        self.phases[name][phase] += 1
        return phase

    def _look(self) -> tuple[set[str], set[str]]:
        """Return the names of the blocks and of the maintenance ledgers that are there."""
        root = root_of(self.store)
        blocks = {entry.name for day in listed(root / "blocks") for entry in listed(Path(day.path))}
        ledgers = {entry.name for day in listed(root / "maintenance") for entry in listed(Path(day.path))}
        return blocks, ledgers

    def _phase(self, before: tuple[set[str], set[str]]) -> str:
        blocks, ledgers = self._look()
        recorded: set[str] = set()
        replaced: set[str] = set()
        for day in self.store.maintenance_days():
            for number, writer, content in self.store.maintenance_entries(day):
                for one in decode_ledger(writer, content).entries:
                    if isinstance(one, BlockStored):
                        recorded.add(f"{one.block}.parquet")
                        if f"{number:09d}.jsonl" not in before[1]:
                            replaced.update(f"{old}.parquet" for old in one.replaces)
        if blocks - before[0] - recorded - self.landing.files:
            return PUT
        if replaced & blocks:
            return COMMITTED
        if ledgers - before[1] or before[0] - blocks:
            return RETIRED
        return BEFORE

    def verify(self) -> dict[str, Any]:
        """Return what verify --deep says."""
        done = subprocess.run(
            command("verify", "--store", self.store.url, "--deep", "--output", "json"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def read_all(self) -> dict[str, list[Record]]:
        """Return what a reader finds that begins now."""
        done = subprocess.run(command("read", "--store", self.store.url), capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        pairs = sorted(map(parse_record, done.stdout.splitlines()), key=lambda one: one[0])
        return {shard: [record for _, record in each] for shard, each in groupby(pairs, key=lambda one: one[0])}


def listed(path: Path) -> list[os.DirEntry[str]]:
    """Return what is in a directory, nothing if it is not there."""
    try:
        with os.scandir(path) as names:
            return list(names)
    except (FileNotFoundError, NotADirectoryError):
        return []
