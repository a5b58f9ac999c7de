"""Proves from ledger and footers that all that KCL delivered is stored, or says what is not.

Nothing is changed, and the receiver may be running: the ledger is read before the blocks are listed, so that each block
that it names must be there.

    proven              one chain of links leads from where reading began to the last record
    possibly trimmed    the chain holds, but one link is older than the stream's retention was when reading resumed
    gap                 the chain is broken: records may exist that no block holds
    lost                the ledger names records, and no block that can be read holds them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kcl_receiver.errors import BlockDamaged, BlockMissing, StoreRefused, StoreUnavailable
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.reader.coverage import Coverage, Gap, Selected, Span, SpanSet, cover, select, span_of
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, decode_ledger
from kcl_receiver.store.ledger import LedgerIndex, read_block_footer
from kcl_receiver.store.names import writer_of
from kcl_receiver.store.parquet import check_range, read_positions, read_ranges

PROVEN = "proven"
POSSIBLY_TRIMMED = "possibly trimmed"
GAP = "gap"
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that the ledger names and that no readable block holds.

    Attributes:
        block: Id of the block that held them.
        span: From where to where.
        count: How many of them; None if other blocks hold some of the range's records.
    """

    block: str
    span: Span
    count: int | None


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard.

    Attributes:
        stream: Its stream.
        shard: Its id.
        state: One of the four words.
        records: Number of records that are stored, each counted once.
        duplicates: Records that blocks hold beyond that.
        blocks: Number of blocks that hold records of it.
        first: Position of the first record that is stored, or None if there is none.
        last: The same of the last.
        arrival_first: When the first one arrived at Kinesis, in milliseconds since the epoch; -1 if not known.
        arrival_last: The same of the last.
        ended: The shard was read to its end.
        gaps: See `Coverage`.
        possibly_trimmed: See `Coverage`.
        lost: What is lost.
    """

    stream: StreamIdentity
    shard: str
    state: str
    records: int
    duplicates: int
    blocks: int
    first: Position | None
    last: Position | None
    arrival_first: int
    arrival_last: int
    ended: bool
    gaps: tuple[Gap, ...]
    possibly_trimmed: tuple[Gap, ...]
    lost: tuple[Lost, ...]


@dataclass(slots=True)
class Report:
    """A whole store.

    Attributes:
        url: The store's URL.
        application: Whose store it is; None if its document is missing.
        deep: The checksum of every range was made again.
        shards: All shards of all streams.
        blocks: Number of blocks that are in the store.
        missing: Ids of blocks that the ledger names and that are not there.
        damaged: Why each damaged block is so, by its id.
        orphans: Ids of whole blocks that are in no ledger. The next generator takes them into its own.
        leftovers: Path and size of files that are no part of the store.
        writers: Number of writers.
        ledger_faults: What is wrong with the ledger.
        ledger_lost: There are blocks, and no ledger.
        torn: Writers whose ledger ends in a torn line, which nobody relied on.
    """

    url: str
    application: str | None = None
    deep: bool = False
    shards: list[ShardReport] = field(default_factory=list)
    blocks: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    leftovers: list[tuple[str, int]] = field(default_factory=list)
    writers: int = 0
    ledger_faults: list[str] = field(default_factory=list)
    ledger_lost: bool = False
    torn: list[str] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        """Whether everything is: each shard, each block, the ledger. Orphans, leftovers and torn ends take nothing."""
        return (
            all(one.state == PROVEN for one in self.shards)
            and not self.missing
            and not self.damaged
            and not self.ledger_faults
            and not self.ledger_lost
        )


def verify_store(store: BlockStore, *, deep: bool = False) -> Report:
    """Return what a store's ledger and blocks prove.

    Args:
        store: The store; it is only read.
        deep: Read all records, and make the checksum of every range again.

    Raises:
        StoreRefused: There is no store, or it is of a format that this version does not know.
        StoreUnavailable: The store cannot be read now.
    """
    report = Report(store.url, deep=deep)
    report.application = store.owner()
    index = _load(store, report)
    sizes = dict(store.list_blocks())
    report.blocks = len(sizes)
    if report.application is None and not sizes and not index.writers:
        raise StoreRefused(f"there is no store at {store.url}", "is the URL right? `run` makes a store when it starts")
    for block, entry in index.blocks().items():
        if block not in sizes:
            report.missing.append(block)
            continue
        try:
            _check_block(store, entry, sizes[block], deep=deep)
        except BlockMissing:
            report.missing.append(block)
        except BlockDamaged as error:
            report.damaged[block] = error.message
    report.missing.sort()
    bad = {*report.missing, *report.damaged}
    while True:
        report.shards = [
            _judge(store, index, stream, shard, report.damaged, bad | set(report.damaged))
            for stream in sorted(index.streams())
            for shard in index.shards(stream)
        ]
        if bad.issuperset(report.damaged):
            break
        bad.update(report.damaged)  # found while counting: judge again without it
    report.leftovers = sorted(store.list_leftovers())
    return report


def _load(store: BlockStore, report: Report) -> LedgerIndex:
    """Load the ledger as far as it is good, and note what is not."""
    index = LedgerIndex()
    for writer, content in store.read_ledger():
        fault = index.add_ledger(decode_ledger(writer, content))
        if fault is not None:
            report.ledger_faults.append(fault.message)
    report.ledger_faults.extend(fault.message for fault in index.lost_tails())
    report.writers = len(index.writers)
    report.torn = sorted(index.torn)
    index.adopt(store)
    report.ledger_lost = index.lost
    report.damaged.update(index.unreadable)
    report.orphans = _still_orphans(store, [one.block for one in index.adopted])
    return index


def _still_orphans(store: BlockStore, blocks: Sequence[str]) -> list[str]:
    """Leave out the blocks whose writer was alive, and has written them into its ledger since."""
    writers = {writer_of(block) for block in blocks}
    named: set[str] = set()
    if writers:
        for writer, content in store.read_ledger():
            if writer in writers:
                named.update(
                    one.block for one in decode_ledger(writer, content).entries if isinstance(one, BlockStored)
                )
    return sorted(set(blocks) - named)


def _check_block(store: BlockStore, entry: BlockStored, size: int, *, deep: bool) -> None:
    """See that a block is what its ledger entry says.

    Raises:
        BlockMissing: It is not there any more.
        BlockDamaged: It is not.
        StoreUnavailable: It cannot be read now.
    """
    if size != entry.size:
        raise BlockDamaged(f"it has {size} bytes, and {entry.size} were stored")
    footer = read_block_footer(store, entry.block)
    if footer.ranges != entry.ranges or footer.stream != entry.stream:
        raise BlockDamaged("its footer does not say what the ledger says")
    if not deep:
        return
    with store.open_block(entry.block) as file:
        try:
            for one, rows in read_ranges(file, footer):
                check_range(one, rows)
        except OSError as error:
            raise StoreUnavailable(f"block {entry.block} cannot be read: {error}", "try again") from error


def _judge(
    store: BlockStore,
    index: LedgerIndex,
    stream: StreamIdentity,
    shard: str,
    damaged: dict[str, str],
    bad: set[str],
) -> ShardReport:
    everything = index.ranges(stream, shard)
    good = [(one, block) for one, block in everything if block not in bad]
    end = index.shard_ended(stream, shard)
    coverage = cover([one for one, _ in everything], index.sessions(stream, shard), None if end is None else end.last)
    gaps = coverage.gaps if end is not None else (*coverage.gaps, *_end_not_recorded(index, stream, shard, coverage))
    lost = _lost(everything, good)
    records = sum(_count(store, one, damaged) for one in select(good))
    first = min((one for one, _ in good), key=lambda one: one.first, default=None)
    last = max((one for one, _ in good), key=lambda one: one.last, default=None)
    return ShardReport(
        stream=stream,
        shard=shard,
        state=LOST if lost else GAP if gaps else POSSIBLY_TRIMMED if coverage.possibly_trimmed else PROVEN,
        records=records,
        duplicates=sum(one.count for one, _ in good) - records,
        blocks=len({block for _, block in good}),
        first=None if first is None else first.first,
        last=None if last is None else last.last,
        arrival_first=-1 if first is None else first.arrival_first,
        arrival_last=-1 if last is None else last.arrival_last,
        ended=end is not None,
        gaps=tuple(gaps),
        possibly_trimmed=coverage.possibly_trimmed,
        lost=tuple(lost),
    )


def _end_not_recorded(index: LedgerIndex, stream: StreamIdentity, shard: str, coverage: Coverage) -> list[Gap]:
    """KCL begins a child only after its parents' end was checkpointed, which is done only once it is recorded here."""
    last = coverage.segments[-1].high.position if coverage.segments else None
    for child in index.shards(stream):
        if any(shard in one.parents for one in index.sessions(stream, child)):
            return [Gap(last, None, None, f"its child {child} was read, and its own end is not recorded")]
    return []


def _lost(everything: Sequence[tuple[Range, str]], good: Sequence[tuple[Range, str]]) -> list[Lost]:
    held = SpanSet(span_of(one) for one, _ in good)
    kept = {block for _, block in good}
    lost: list[Lost] = []
    for one, block in everything:
        if block in kept:
            continue
        parts = held.missing(span_of(one))
        whole = parts == [span_of(one)]
        lost.extend(Lost(block, part, one.count if whole else None) for part in parts)
        held.add(span_of(one))  # named once, if several blocks held it
    return lost


def _count(store: BlockStore, selected: Selected, damaged: dict[str, str]) -> int:
    """Return how many records of a range count; where ranges overlap in part, only its rows can tell."""
    if selected.records is not None:
        return selected.records
    try:
        with store.open_block(selected.block) as file:
            positions = read_positions(file, selected.range)
    except BlockDamaged as error:
        damaged[selected.block] = error.message
        return 0
    except OSError as error:
        raise StoreUnavailable(f"block {selected.block} cannot be read: {error}", "try again") from error
    return sum(any(part.holds(position) for part in selected.parts) for position in positions)
