"""`verify` asking KCL's lease table and the stream itself, on the emulated AWS: what it says, and how it exits."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from generator_process import STREAM
from store_support import LATE, NOW, SHARD, Record, begin, columns_of, local_store, put, range_of, root_of, session_at
from test_recovery import HOUR, Source, reshard

from kcl_receiver import aws
from kcl_receiver.audit import stream_auditor as against
from kcl_receiver.audit.report import Report
from kcl_receiver.audit.shard_scan import FIRST_PAGE_RECORDS
from kcl_receiver.audit.stream_audit import End, Kind, Known, Question
from kcl_receiver.audit.stream_auditor import Progress, StreamAuditor
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.cli import external_checks as verify_others
from kcl_receiver.cli import verify as command
from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.credentials import Access
from kcl_receiver.emulator.kpl import MAGIC, UserRecord, aggregate
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EXIT_AMISS, EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_STREAM, EXIT_USAGE
from kcl_receiver.ids import writer_id
from kcl_receiver.kinesis.range_fetcher import connect
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.entries import BlockStored, ShardEnded
from kcl_receiver.store.store import Store

FAST = Limits(calls=500.0, bytes=1e9)
BATCH = 7


class Landed:
    """A store of what the daemon delivers of the stream, without the batches that KCL skipped."""

    def __init__(self, root: Path, source: Source) -> None:
        self.source = source
        self.store = local_store(root)
        self.store.claim(STREAM)
        self.writer = writer_id(self.now, "7f3a9c01")
        self.ledger = begin(self.store, self.writer, time=self.now)
        self.number = 0
        self.through: dict[str, Position] = {}
        self.sessions: set[str] = set()

    @property
    def now(self) -> int:
        """The stream's own clock: nothing here is older or younger than what it holds."""
        return self.source.emulator.kinesis.now()

    def session(self, shard: str, after: After = TRIM_HORIZON, *, trimmed: bool = False) -> None:
        parents = self.source.shards()[shard].parents
        self.ledger.append(
            [
                session_at(
                    after,
                    shard=shard,
                    stream=self.source.identity,
                    parents=parents,
                    trimmed=trimmed,
                    time=self.now,
                )
            ]
        )
        self.sessions.add(shard)

    def put(self, block: BlockRange) -> BlockStored:
        self.number += 1
        return put(self.store, self.number, block, writer=self.writer, stream=self.source.identity, time=self.now)

    def land(
        self, skip: int | None = None, *, skip_last_of: str = "", trimmed: bool = False
    ) -> list[tuple[str, Position]]:
        """Store what is new, in batches, without the one of this number; return what was skipped so."""
        skipped: list[tuple[str, Position]] = []
        count = 0
        for shard, described in self.source.shards().items():
            if shard not in self.sessions:
                self.session(shard)
            after: After = self.through.get(shard, TRIM_HORIZON)
            users = [
                one
                for one in self.source.delivered(shard)
                if not isinstance(after, Position) or Position(one[0], one[1]) > after
            ]
            while users:
                size = next((n for n in range(BATCH, len(users)) if users[n][1] == 0), len(users))
                batch, users = users[:size], users[size:]
                last = Position(batch[-1][0], batch[-1][1])
                self.through[shard] = last
                count += 1
                if count - 1 == skip or (shard == skip_last_of and not users):
                    skipped += [(shard, Position(one[0], one[1])) for one in batch]
                    continue
                records: list[Record] = [(one[0], one[1], one[3].encode(), one[2], one[4]) for one in batch]
                columns = columns_of(records)
                delivered = self.now + (LATE - NOW if trimmed else 0)
                block = range_of(columns, shard=shard, after=after, delivered=delivered)
                self.ledger.append([self.put(BlockRange(block, columns))])
                after = last
            if described.last is not None:
                self.ledger.append([ShardEnded("s1", shard, self.source.identity, after, self.now)])
        return skipped


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        against.StreamAuditor.__init__,
        "__kwdefaults__",
        against.StreamAuditor.__init__.__kwdefaults__ | {"limits": FAST},
    )


@pytest.fixture
def source(emulator: Emulator) -> Source:
    return Source(emulator)


@pytest.fixture
def landed(tmp_path: Path, source: Source) -> Landed:
    return Landed(tmp_path / "store", source)


class Run:
    """Runs the command on the store, in text or as JSON."""

    def __init__(self, landed: Landed, capsys: pytest.CaptureFixture[str]) -> None:
        self.landed = landed
        self.capsys = capsys
        self.err = ""

    def __call__(self, *options: str) -> tuple[int, str]:
        endpoint = ["--endpoint-url", self.landed.source.emulator.url] if options else []
        code = run_cli(["verify", "--store", self.landed.store.url, *options, *self._arn(endpoint)])
        out, self.err = self.capsys.readouterr()
        return code, out

    def _arn(self, endpoint: list[str]) -> list[str]:
        return [*endpoint, "--stream-arn", self.landed.source.identity.arn, "--application", STREAM] if endpoint else []

    def json(self, *options: str) -> tuple[int, dict[str, Any]]:
        code, out = self(*options, "--output", "json")
        return code, json.loads(out)


@pytest.fixture
def run(landed: Landed, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(landed, capsys)


# ---------------------------------------------------------------------- against the stream


def test_after_a_split_and_a_merge_a_whole_store_is_proven_by_the_stream(
    emulator: Emulator, source: Source, landed: Landed, run: Run
) -> None:
    reshard(source)
    landed.land()
    emulator.kinesis.configure(empty_pages=0.5)
    code, text = run("--against-stream")
    assert code == EXIT_OK
    assert "Proven by the stream: all that KCL delivers is stored, but not " in text
    assert "What is amiss" not in text
    code, said = run.json("--against-stream")
    asked = said["against_stream"]
    assert (code, asked["complete"], asked["unknown_shards"]) == (EXIT_OK, True, [])
    assert len(asked["shards"]) == len(source.users) == 5
    for one in asked["shards"]:
        users = [user for holds in source.users[one["shard"]].values() for user in holds]
        assert (one["records"], one["kinesis_records"]) == (len(users), len(source.users[one["shard"]]))
        assert (one["skipped"], one["not_stored_yet"], one["lost"], one["links_trimmed"]) == (0, 0, 0, 0)
    # Aggregates with a record of another shard are in the stream, and rightly in no range, unless one goes past them.
    assert sum(one["dropped_aggregates"] for one in asked["shards"]) > 0
    assert sum(one["ranges"] for one in asked["shards"]) == landed.number


def test_aggregates_that_kcl_drops_or_breaks_off_are_named_and_the_verdict_says_that_they_are_not_stored(
    source: Source, landed: Landed, run: Run
) -> None:
    shard = next(iter(source.shards()))
    inside = [(f"k{at}", b"%d" % at) for at in range(6)]
    dropped = aggregate([UserRecord("k", b"x", place) for place in (1, 2**127 + 5, 2)])
    broken = aggregate([UserRecord("k", data, place) for data, place in ((b"a", 1), (b"b", 777), (b"c", 2))])
    message = broken[len(MAGIC) : -16].replace(b"777", b"abc")
    broken = MAGIC + message + hashlib.md5(message).digest()
    puts = [(one, [one]) for one in inside]
    puts[3:3] = [(("k", dropped), []), (("k", broken), [("k", b"a")])]
    entries = [{"Data": data, "PartitionKey": key, "ExplicitHashKey": "1"} for (key, data), _ in puts]
    numbers = []
    for entry, (_, holds) in zip(entries, puts, strict=True):
        number = source.kinesis.put_record(StreamName=STREAM, **entry)["SequenceNumber"]
        source.users[shard][int(number)] = holds
        numbers.append(number)
    landed.land()
    code, text = run("--against-stream")
    assert code == EXIT_OK
    assert f"{shard}: KCL drops the aggregate {numbers[3]} with 3 user records, arrived " in text
    assert f"{shard}: KCL does not deliver the last 2 user records of the aggregate {numbers[4]}, arrived " in text
    assert (
        "Proven by the stream: all that KCL delivers is stored, but not 5 user records of 2 aggregates that KCL does "
        "not deliver: " in text
    )
    assert "nothing lies between" not in text
    _, said = run.json("--against-stream")
    (asked,) = [one for one in said["against_stream"]["shards"] if one["shard"] == shard]
    names = ("dropped_aggregates", "dropped_records", "broken_aggregates", "broken_records")
    assert [asked[name] for name in names] == [1, 3, 1, 2]
    assert [(one["what"], one["sequence_number"], one["records"]) for one in asked["left_out"]] == [
        ("dropped", numbers[3], 3),
        ("broken", numbers[4], 2),
    ]


def test_a_page_that_kcl_skipped_is_seen_by_the_stream_alone(source: Source, landed: Landed, run: Run) -> None:
    reshard(source)
    skipped = landed.land(skip=20)
    assert run()[0] == EXIT_OK
    code, said = run.json("--against-stream")
    assert code == EXIT_AMISS
    assert said["proven"] is True
    (one,) = [one for one in said["against_stream"]["shards"] if one["skipped"]]
    assert {(one["shard"], one["skipped"])} == {(skipped[0][0], len(skipped))}
    assert [(found["what"], found["first"], found["last"], found["records"]) for found in one["found"]] == [
        ("skipped", str(skipped[0][1]), str(skipped[-1][1]), len(skipped))
    ]
    code, text = run("--against-stream")
    assert f"{skipped[0][0]}: skipped: in the stream and not stored: {len(skipped)} records, from " in text
    assert f"NOT proven by the stream: {len(skipped)} records skipped." in text


def test_what_is_newer_than_the_last_that_is_stored_is_not_stored_yet(source: Source, landed: Landed, run: Run) -> None:
    source.put(50)
    landed.land()
    source.put(30)
    code, said = run.json("--against-stream")
    assert code == EXIT_OK
    assert sum(one["not_stored_yet"] for one in said["against_stream"]["shards"]) > 0
    assert {one["read_to"] for one in said["against_stream"]["shards"]} == {"past the last that is stored"}


def test_what_comes_after_the_last_that_is_stored_of_an_ended_shard_was_skipped(
    source: Source, landed: Landed, run: Run
) -> None:
    source.put(100)
    first = next(iter(source.shards()))
    middle = sum(map(int, source.shards()[first].hash_range)) // 2
    source.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first, NewStartingHashKey=str(middle))
    skipped = landed.land(skip_last_of=first)
    assert run()[0] == EXIT_OK
    code, said = run.json("--against-stream")
    assert code == EXIT_AMISS
    (one,) = [one for one in said["against_stream"]["shards"] if one["shard"] == first]
    assert (one["skipped"], one["read_to"], one["not_stored_yet"]) == (len(skipped), "shard end", 0)


def test_what_is_lost_and_still_in_the_stream_is_told(source: Source, landed: Landed, run: Run) -> None:
    source.put(60)
    landed.land()
    entry = next(iter(landed.store.list_blocks()))[0]
    (root_of(landed.store) / block_path(entry)).unlink()
    code, said = run.json("--against-stream")
    assert code == EXIT_AMISS
    lost = sum(one["count"] for shard in said["shards"] for one in shard["lost"])
    assert sum(one["lost"] for one in said["against_stream"]["shards"]) == lost > 0
    assert "lost, and still in the stream" in run("--against-stream")[1]


@pytest.fixture
def late(source: Source, landed: Landed) -> Landed:
    """Reading of each shard resumed late, so that one link of each is possibly trimmed."""
    source.put(60)
    landed.land()
    source.put(40)
    for shard, through in landed.through.items():
        landed.session(shard, through, trimmed=True)
    landed.land(trimmed=True)
    return landed


def test_a_possibly_trimmed_link_is_proven_where_the_stream_reaches_back_before_it(late: Landed, run: Run) -> None:
    assert run()[0] == EXIT_AMISS
    code, text = run("--against-stream")
    assert code == EXIT_OK
    assert "proven now: the stream reaches back before it, and nothing lies there" in text
    assert "That proves what the store alone could not." in text
    assert run.json("--against-stream")[1]["against_stream"]["settled"] is True


def test_a_possibly_trimmed_link_that_the_stream_has_trimmed_stays_what_it_is(
    emulator: Emulator, late: Landed, run: Run
) -> None:
    report = verify_store(late.store)
    for shard in report.shards:
        after = shard.possibly_trimmed[0].after
        assert after is not None
        emulator.kinesis.trim(STREAM, shard.shard, after.sequence_number)
    code, text = run("--against-stream")
    assert code == EXIT_AMISS
    assert "possibly trimmed after" in text
    assert ": can't be asked any more\n" in text
    assert "link can't be asked any more" in text or "links can't be asked any more" in text


def test_after_the_retention_nothing_can_be_asked_and_nothing_is_called_amiss(
    emulator: Emulator, source: Source, landed: Landed, run: Run
) -> None:
    reshard(source)
    landed.land()
    emulator.kinesis.advance(25 * HOUR)
    source.put(10)
    code, text = run("--against-stream")
    assert code == EXIT_OK
    assert "the stream does not hold it any more: it can't be asked about" in text
    code, said = run.json("--against-stream")
    assert {"trimmed", "past the last that is stored"} >= {one["read_to"] for one in said["against_stream"]["shards"]}
    assert sum(one["links"] for one in said["against_stream"]["shards"]) == 0
    assert sum(one["links_trimmed"] for one in said["against_stream"]["shards"]) > 0


def test_with_since_only_what_arrived_then_or_later_is_asked(
    emulator: Emulator, source: Source, landed: Landed, run: Run
) -> None:
    source.put(60)
    emulator.kinesis.advance(2 * HOUR)
    source.put(60)
    landed.land()
    code, said = run.json("--against-stream")
    everything = sum(one["records"] for one in said["against_stream"]["shards"])
    first = min(one["arrival_first"] for one in said["shards"])
    since = first + int(HOUR * 1000)
    assert run("--against-stream", "--since", f"{since // 1000}")[0] == EXIT_USAGE
    iso = datetime.fromtimestamp(since / 1000, timezone.utc).isoformat()
    code, said = run.json("--against-stream", "--since", iso)
    assert code == EXIT_OK
    later = sum(one["records"] for one in said["against_stream"]["shards"])
    assert 0 < later < everything
    assert sum(one["links_trimmed"] for one in said["against_stream"]["shards"]) > 0


def test_shards_that_the_store_does_not_know_are_named(source: Source, landed: Landed, run: Run) -> None:
    source.put(40)
    landed.land()
    first = source.shards()[SHARD]
    middle = sum(map(int, first.hash_range)) // 2
    source.kinesis.split_shard(StreamName=STREAM, ShardToSplit=SHARD, NewStartingHashKey=str(middle))
    code, said = run.json("--against-stream")
    assert code == EXIT_OK
    assert len(said["against_stream"]["unknown_shards"]) == 2
    assert "is in the stream, and this store knows nothing of it" in run("--against-stream")[1]


def test_a_stream_that_is_gone_or_another_one_exits_with_5_and_what_the_store_proves_is_printed(
    source: Source, landed: Landed, run: Run
) -> None:
    source.put(20)
    landed.land()
    source.kinesis.delete_stream(StreamName=STREAM)
    code, text = run("--against-stream")
    assert (code, "Proven: all that KCL delivered is stored" in text) == (EXIT_STREAM, True)
    assert "StreamGone" in run.err
    source.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    code, said = run.json("--against-stream")
    assert (code, said["proven"], "against_stream" in said) == (EXIT_STREAM, True, False)
    assert "StreamReplaced" in run.err


def test_ctrl_c_ends_the_asking_and_says_what_was_found(
    source: Source, landed: Landed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.put(40)
    landed.land()
    ask = StreamAuditor.ask

    def interrupted(self: StreamAuditor, *arguments: Any) -> Iterator[Any]:  # noqa: ANN401
        signal.raise_signal(signal.SIGINT)
        return ask(self, *arguments)

    monkeypatch.setattr(StreamAuditor, "ask", interrupted)
    before = signal.getsignal(signal.SIGINT)
    code, text = run("--against-stream")
    assert code == EXIT_INTERRUPTED
    assert "2 shards not asked to the end" in text
    assert signal.getsignal(signal.SIGINT) is before
    code, said = run.json("--against-stream")
    assert said["against_stream"]["complete"] is False


def test_beside_somebody_else_who_reads_it_is_throttled_and_says_the_same(
    emulator: Emulator, source: Source, landed: Landed, run: Run
) -> None:
    source.put(200)
    skipped = landed.land(skip=3)
    for _ in range(2):
        emulator.faults.fail("kinesis", "GetRecords", "ProvisionedThroughputExceededException", status=400)
        emulator.faults.fail("kinesis", "GetShardIterator", "KMSThrottlingException", status=400)
    emulator.faults.fail("kinesis", "GetRecords", "ExpiredIteratorException", status=400)
    code, said = run.json("--against-stream")
    assert code == EXIT_AMISS
    assert sum(one["skipped"] for one in said["against_stream"]["shards"]) == len(skipped)


def questions(landed: Landed) -> list[Question]:
    known: dict[str, list[Known]] = {}
    for shard in landed.source.shards():
        users = landed.source.delivered(shard)
        known[shard] = [Known(Position(*one[:2]), Position(*one[:2]), 1) for one in users]
    shards = landed.source.shards()
    return [
        Question(shard, each, TRIM_HORIZON, hash_range=verify_others.HashRange.of(shards[shard].hash_range))
        for shard, each in known.items()
    ]


def test_iterators_that_expire_are_replaced_and_no_record_counts_twice(
    emulator: Emulator, source: Source, landed: Landed
) -> None:
    source.put(300, size=20_000)
    emulator.kinesis.configure(empty_pages=0.3)
    seen: list[Progress] = []
    expired: set[int] = set()

    def grow_old(progress: Progress) -> None:
        seen.append(progress)
        if progress.pages in (1, 3) and progress.pages not in expired:
            expired.add(progress.pages)
            emulator.kinesis.advance(301)

    asked = questions(landed)
    asking = StreamAuditor(
        connect(Access("kinesis", emulator.region, emulator.url)), limits=FAST, progress=grow_old, workers=1
    )
    answers = list(asking.ask(source.identity, asked))
    assert seen[-1].failed > 0
    assert (seen[-1].shards, seen[-1].of) == (2, 2)
    for answer in answers:
        assert answer.kinesis_records == len(source.users[answer.shard])
        assert (answer.totals, answer.ranges_unasked, answer.links_unasked) == ({}, 0, 0)


def test_what_is_trimmed_while_it_is_read_is_no_gap(emulator: Emulator, source: Source, landed: Landed) -> None:
    source.put(600)
    asked = questions(landed)[0]
    trimmed: list[int] = []

    def trim(progress: Progress) -> None:
        if progress.pages == 1 and not trimmed:
            trimmed.append(sorted(source.users[asked.shard])[-5])
            emulator.kinesis.trim(STREAM, asked.shard, trimmed[0])
            emulator.kinesis.advance(301)

    (answer,) = StreamAuditor(
        connect(Access("kinesis", emulator.region, emulator.url)), limits=FAST, progress=trim
    ).ask(source.identity, [asked])
    assert FIRST_PAGE_RECORDS < answer.kinesis_records < len(source.users[asked.shard])
    assert (answer.totals, answer.ranges_differing, answer.end) == ({}, 0, End.TIP)
    assert answer.links > FIRST_PAGE_RECORDS / 2
    assert answer.links_unasked > 0


def test_a_stop_ends_it_with_an_answer_for_every_shard(emulator: Emulator, source: Source, landed: Landed) -> None:
    source.put(50)
    stop = threading.Event()
    asking = StreamAuditor(
        connect(Access("kinesis", emulator.region, emulator.url)),
        limits=FAST,
        stop=stop,
        progress=lambda _: stop.set(),
        workers=1,
    )
    answers = list(asking.ask(source.identity, questions(landed)))
    assert len(answers) == 2
    assert End.BROKEN_OFF in {answer.end for answer in answers}
    assert all(Kind.SKIPPED not in answer.totals for answer in answers)


# ---------------------------------------------------------------------- leases


class Leases:
    """KCL's lease table, written by hand."""

    def __init__(self, emulator: Emulator) -> None:
        self.dynamodb = emulator.client("dynamodb")
        self.dynamodb.create_table(
            TableName=STREAM,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def set(self, shard: str, checkpoint: Position | str, owner: str | None = "host-0123456789ab") -> None:
        position = isinstance(checkpoint, Position)
        self.dynamodb.put_item(
            TableName=STREAM,
            Item={
                "leaseKey": {"S": shard},
                "checkpoint": {"S": str(checkpoint[0]) if position else checkpoint},
                "checkpointSubSequenceNumber": {"N": str(checkpoint[1]) if position else "0"},
                "leaseCounter": {"N": "3"},
                **({"leaseOwner": {"S": owner}} if owner else {}),
            },
        )


@pytest.fixture
def leases(emulator: Emulator, source: Source, landed: Landed) -> Leases:
    """Each lease is at the last position that is stored."""
    source.put(60)
    landed.land()
    made = Leases(emulator)
    for shard, through in landed.through.items():
        made.set(shard, through)
    return made


def test_checkpoints_at_and_behind_what_is_stored_are_proven(leases: Leases, landed: Landed, run: Run) -> None:
    code, text = run("--leases")
    assert code == EXIT_OK
    assert "Leases proven: of 2 checkpoints, none is past what is stored." in text
    first = verify_store(landed.store).shards[0].first
    assert first is not None
    leases.set(SHARD, first)
    code, said = run.json("--leases")
    one, two = said["leases"]["leases"]
    assert (code, one["state"], two["state"]) == (EXIT_OK, "behind", "at what is stored")
    assert one["behind_records"] > 0
    assert f"{one['behind_records']:,} records" in run("--leases")[1]


def test_shards_that_nobody_reads_are_named(leases: Leases, landed: Landed, run: Run) -> None:
    leases.set(SHARD, landed.through[SHARD], owner=None)
    code, text = run("--leases")
    assert code == EXIT_OK  # a receiver that was stopped proves what it stored
    assert f"No worker has the lease of 1 shard, so nothing is read of: {SHARD}" in text
    leases.set("shardId-000000000009", TRIM_HORIZON, owner=None)
    code, text = run("--leases")
    assert code == EXIT_AMISS
    assert "shardId-000000000009: read by nobody, checkpoint TRIM_HORIZON" in text
    assert "Leases NOT proven: 1 lease of 3 amiss." in text


def test_an_empty_store_is_not_proven_whatever_the_leases_say(
    source: Source, landed: Landed, run: Run, emulator: Emulator
) -> None:
    leases = Leases(emulator)
    code, text = run("--leases")
    assert (code, "Leases NOT proven: the table holds no lease" in text) == (EXIT_AMISS, True)
    leases.set(SHARD, TRIM_HORIZON)
    code, text = run("--leases")
    assert (code, "Nothing is stored yet" in text) == (EXIT_NOTHING, True)
    leases.set(SHARD, TRIM_HORIZON, owner=None)
    assert run("--leases")[0] == EXIT_AMISS


def test_a_checkpoint_beyond_what_is_stored_is_said_loudly(leases: Leases, landed: Landed, run: Run) -> None:
    through = landed.through[SHARD]
    beyond = Position(through.sequence_number + 1)
    leases.set(SHARD, beyond)
    code, text = run("--leases")
    assert code == EXIT_AMISS
    assert (
        f"{SHARD}: BEYOND WHAT IS STORED, checkpoint {beyond}, stored through {through}, "
        "lease of worker host-0123456789ab"
    ) in text
    assert "PROMISE BROKEN: 1 checkpoint is beyond what is stored" in text
    leases.set(SHARD, "SHARD_END")
    code, text = run("--leases")
    assert code == EXIT_AMISS
    assert "the ledger does not record that it was reached" in text


def test_the_checkpoint_of_another_host_is_not_called_proven(leases: Leases, landed: Landed, run: Run) -> None:
    leases.set(SHARD, Position(landed.through[SHARD].sequence_number + 1), "elsewhere:6f1e")
    code, text = run("--leases")
    assert code == EXIT_AMISS
    assert f"{SHARD}: with another host, checkpoint " in text
    assert "lease of worker elsewhere:6f1e; what lies between should be in that host's store" in text
    assert "Leases NOT proven: 1 lease of 2 amiss." in text
    assert "PROMISE BROKEN" not in text


def test_leases_of_unknown_shards_and_shards_without_leases_are_named(leases: Leases, run: Run) -> None:
    leases.set("shardId-000000000009", TRIM_HORIZON)
    assert run("--leases")[0] == EXIT_OK
    leases.set("shardId-000000000009", Position(5))
    leases.dynamodb.delete_item(TableName=STREAM, Key={"leaseKey": {"S": SHARD}})
    code, text = run("--leases")
    assert code == EXIT_AMISS
    assert "shardId-000000000009: no position stored, checkpoint 5:0, stored through nothing" in text
    assert f"{SHARD}: no lease, stored through " in text


def test_leases_are_read_before_the_store_so_that_a_receiver_may_run_meanwhile(
    leases: Leases, source: Source, landed: Landed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify_while_it_runs(store: Store, **more: Any) -> Report:  # noqa: ANN401
        report = verify_store(store, **more)
        source.put(30)
        landed.land()
        for shard, through in landed.through.items():
            leases.set(shard, through)
        return report

    monkeypatch.setattr(command, "verify_store", verify_while_it_runs)
    assert run("--leases")[0] == EXIT_OK


def test_a_lease_table_that_is_not_there_exits_with_5(source: Source, landed: Landed, run: Run) -> None:
    source.put(10)
    landed.land()
    code, text = run("--leases")
    assert (code, "Proven: all that KCL delivered is stored" in text) == (EXIT_STREAM, True)
    assert f"lease table {STREAM}: there is none of this name" in run.err


@pytest.mark.parametrize("by_option", [True, False])
def test_the_store_tells_stream_and_application_by_itself(
    leases: Leases, landed: Landed, run: Run, monkeypatch: pytest.MonkeyPatch, *, by_option: bool
) -> None:
    endpoint = landed.source.emulator.url
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9" if by_option else endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulator")
    options = ["--endpoint-url", endpoint] if by_option else []
    code = run_cli(["verify", "--store", landed.store.url, "--leases", "--against-stream", *options])
    text, errors = run.capsys.readouterr()
    assert (code, errors) == (EXIT_OK, "")
    assert "Leases proven" in text
    assert "Proven by the stream" in text


@pytest.mark.parametrize("options", [["--since", "6h"], ["--stream-arn", "x"], ["--application", "x"]])
def test_an_option_that_says_nothing_alone_is_refused(landed: Landed, options: list[str]) -> None:
    assert run_cli(["verify", "--store", landed.store.url, *options]) == EXIT_USAGE


def test_the_lease_is_what_aws_reads(leases: Leases, landed: Landed) -> None:
    rows = aws.read_leases(leases.dynamodb, STREAM)
    assert rows is not None
    assert [Position(int(one.checkpoint), one.sub_sequence_number) for one in rows] == [
        landed.through[one.shard] for one in rows
    ]
