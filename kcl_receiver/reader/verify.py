"""Proves from ledger and footers that all that KCL delivered is stored, or says what is not.

Nothing is changed, and the receiver may be running: the ledger is read before the blocks are listed, so that each block
that it names must be there.

    proven              one chain of links leads from where reading began to the last record
    possibly trimmed    the chain holds, but one link is older than the stream's retention was when reading resumed
    gap                 the chain is broken: records may exist that no block holds
    lost                the ledger names records, and no block that can be read holds them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from kcl_receiver.errors import BlockDamaged, BlockMissing, StoreRefused, StoreUnavailable
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.reader.coverage import Coverage, Gap, Selected, SpanSet, cover, select, span_of
from kcl_receiver.reader.verify_report import (
    DAMAGED,
    EXPIRED,
    GAP,
    LOST,
    MISSING,
    POSSIBLY_TRIMMED,
    PROVEN,
    Damage,
    ExpiredStretch,
    Lost,
    Report,
    ShardReport,
    Stretch,
)
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, decode_ledger
from kcl_receiver.store.ledger import LedgerIndex, read_block_footer
from kcl_receiver.store.maintenance import content_of, load_day
from kcl_receiver.store.names import writer_of
from kcl_receiver.store.parquet import check_range, read_positions, read_ranges

__all__ = [
    "DAMAGED",
    "EXPIRED",
    "GAP",
    "LOST",
    "MISSING",
    "POSSIBLY_TRIMMED",
    "PROVEN",
    "Damage",
    "ExpiredStretch",
    "Lost",
    "Report",
    "ShardReport",
    "Stretch",
    "damage",
    "verify_store",
]


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
        if block in index.replaced or block in index.expired:
            continue
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
    bad = {*report.missing, *report.damaged, *index.replaced, *index.expired}
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
    for day in store.maintenance_days():
        changes = load_day(store, day)
        report.ledger_faults.extend(fault.message for fault in changes.faults)
        index.add_maintenance(changes)
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
        spans=coverage.segments,
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


def damage(store: BlockStore, *, deep: bool = False) -> Iterator[Damage]:
    """Yield each block that should be there and whole and is not, in the order of the ids, which is that of time.

    A block that was replaced is among them only if what stands in its place does not hold all of its ranges.

    Args:
        store: The store; it is only read.
        deep: Read all records, and make the checksum of every range again.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    index = _load(store, Report(store.url))
    sizes = dict(store.list_blocks())
    found: dict[str, tuple[Literal["missing", "damaged"], str]] = {}
    held: dict[tuple[StreamIdentity, str], SpanSet] = {}
    for block, entry in sorted(index.blocks().items()):
        if block in index.expired:
            for one in entry.ranges:
                held.setdefault((entry.stream, one.shard), SpanSet()).add(span_of(one))
            continue
        if block in index.replaced:
            found[block] = MISSING, "what replaced it does not hold all of its ranges"
            continue
        try:
            if block not in sizes:
                raise BlockMissing("it is not there")
            _check_block(store, entry, sizes[block], deep=deep)
        except BlockMissing:
            found[block] = MISSING, "it is not there"
        except BlockDamaged as error:
            found[block] = DAMAGED, error.message
        else:
            for one in entry.ranges:
                held.setdefault((entry.stream, one.shard), SpanSet()).add(span_of(one))
    nothing = SpanSet()
    lost: dict[str, tuple[Range, ...]] = {}
    named: set[tuple[StreamIdentity, Range]] = set()
    for block in sorted(found, key=lambda block: (block in index.replaced, block)):
        entry = index.blocks()[block]
        lost[block] = tuple(
            one
            for one in entry.ranges
            if held.get((entry.stream, one.shard), nothing).missing(span_of(one))
            and not (block in index.replaced and (entry.stream, content_of(one)) in named)
        )
        named.update((entry.stream, content_of(one)) for one in lost[block])
    for block, (why, detail) in found.items():
        if lost[block] or block not in index.replaced:
            yield Damage(block, index.blocks()[block], why, detail, lost[block])
