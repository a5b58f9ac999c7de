"""What a new writer takes over from those that wrote to the store before it, and what it hands on.

A ledger grows for years, and a generator must not read all of it at every start. So a writer's first lines name the
ends of the ledgers before it and carry over what is needed of them, and then those are sealed: whoever starts reads the
open ledgers alone, and those that they name. The rule: a ledger is sealed only after the first lines of a later writer
are durable, so that what the open ledgers carry over together is always complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Carried,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    Tail,
    WriterLedger,
    decode_ledger,
)
from kcl_receiver.store.ledger.transaction import acknowledged, is_acknowledged, load_day, taken_in
from kcl_receiver.store.ledger.writer import lost_tail, rebuild_from_footers
from kcl_receiver.store.store import Store


@dataclass(slots=True)
class Takeover:
    """What is there when a writer begins.

    Attributes:
        tails: The last line of each writer whose end nobody has named yet.
        carried: What the open ledgers carry over from those that are sealed.
        blocks: The entries of all blocks in the open ledgers, those that are adopted, and those that `repair` recorded
            of the same writers and that are gone: others may hold their ranges now.
        begun: The sessions in the open ledgers. The position after which one began is a checkpoint that KCL had taken.
        ended: The ends of shards in the open ledgers. Whether KCL has recorded them is not known.
        read: The entries of the open ledgers that say how far shards were read.
        adopted: Blocks that are in the store and in no ledger: their writer was killed between block and ledger, or the
            ledger was lost. They go into the new writer's first lines.
        unreadable: Blocks like these whose footer cannot be read, with the reason.
        to_seal: The open ledgers, to be sealed after the new writer's first lines are durable.
        lost: There are blocks, and no ledger at all.
    """

    tails: dict[str, Tail] = field(default_factory=dict)
    carried: list[Carried] = field(default_factory=list)
    blocks: list[BlockStored] = field(default_factory=list)
    begun: list[SessionStarted] = field(default_factory=list)
    ended: list[ShardEnded] = field(default_factory=list)
    read: list[MarksTaken] = field(default_factory=list)
    adopted: list[BlockStored] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    to_seal: list[str] = field(default_factory=list)
    lost: bool = False


def take_over(store: Store) -> Takeover:
    """Return what a new writer takes over, all of it durable.

    The caller holds the store, so that every writer there has ended.

    Raises:
        LedgerDamaged: An entry is missing or altered.
        StoreUnavailable: The store cannot be read now, or something in it not be made durable.
    """
    contents = dict(store.open_ledgers())
    if not contents:
        return _take_over_all(store)
    opened = {writer: _decode(writer, content) for writer, content in contents.items()}
    named = dict.fromkeys(writer for one in opened.values() for writer in one.named)
    before = {writer: opened.get(writer) or _read_sealed(store, writer) for writer in named}
    _check_named(opened, before, partial(acknowledged, store))
    # A writer that was killed within its first lines has taken nothing over yet: what it names is named again.
    begun = [one for one in opened.values() if any(isinstance(entry, Carried) for entry in one.entries)]
    out = Takeover(to_seal=list(opened))
    out.tails = _unnamed(opened, begun)
    for one in opened.values():
        out.carried += [entry for entry in one.entries if isinstance(entry, Carried)]
        out.blocks += [entry for entry in one.entries if isinstance(entry, BlockStored)]
        out.begun += [entry for entry in one.entries if isinstance(entry, SessionStarted)]
        out.ended += [entry for entry in one.entries if isinstance(entry, ShardEnded)]
        out.read += [entry for entry in one.entries if isinstance(entry, MarksTaken)]
    # A block is recorded by its own writer, or by the next one if the ledger changed while it was on its way.
    known = {entry.block for entry in out.blocks}
    known.update(one.block for old in before.values() if old for one in old.entries if isinstance(one, BlockStored))
    writers = {*out.tails}.union(*(opened[writer].named for writer in out.tails))
    for writer in sorted(writers):
        out.adopted += rebuild_from_footers(store, store.blocks_of(writer), known, out.unreadable)
    # `repair` may have recorded the last ones, and compaction put others in their place: those are held, too.
    known.update(entry.block for entry in out.adopted)
    for day in sorted({day_of(writer) for writer in writers}):
        repaired = (entry for entry in taken_in(store, day) if writer_of(entry.block) in writers)
        out.blocks += [entry for entry in repaired if entry.block not in known]
    for writer in out.tails:
        store.settle_ledger(writer, contents[writer])
    return _settled(store, out)


def _take_over_all(store: Store) -> Takeover:
    """There is no open ledger: a new store, or one whose ledger was lost, in part or wholly."""
    opened = {writer: _decode(writer, content) for writer, content in store.read_ledger()}
    blocks = {one.block: one for each in opened.values() for one in each.entries if isinstance(one, BlockStored)}
    known: list[Acknowledged] = []
    for day in store.maintenance_days():
        changes = load_day(store, day)
        for fault in changes.faults:
            raise fault
        blocks = changes.blocks | blocks
        known += changes.acknowledged
    _check_named(opened, opened, partial(is_acknowledged, known))
    out = Takeover()
    out.tails = _unnamed(opened, opened.values())
    out.adopted = rebuild_from_footers(store, store.list_blocks(), blocks, out.unreadable)
    out.blocks = list(blocks.values())
    out.lost = not opened and bool(out.adopted or out.unreadable)
    return _settled(store, out)


def _check_named(
    opened: Mapping[str, WriterLedger],
    there: Mapping[str, WriterLedger | None],
    is_known: Callable[[str, int], bool],
) -> None:
    """See that every line that a ledger names of another one is there, or known to be gone.

    Raises:
        LedgerDamaged: It is not.
    """
    for witness in opened.values():
        for writer, seen in witness.named.items():
            ledger = there.get(writer)
            if (ledger is None or not ledger.has(seen)) and not is_known(writer, seen.number):
                raise lost_tail(witness.writer, writer, seen)


def _unnamed(opened: Mapping[str, WriterLedger], witnesses: Iterable[WriterLedger]) -> dict[str, Tail]:
    """Return the last line of each ledger of which no witness has named that line, or a later one."""
    named: dict[str, int] = {}
    for one in witnesses:
        for writer, seen in one.named.items():
            named[writer] = max(named.get(writer, 0), seen.number)
    return {writer: one.tail for writer, one in opened.items() if one.tail.number > named.get(writer, 0)}


def _settled(store: Store, out: Takeover) -> Takeover:
    for entry in out.adopted:
        store.settle_block(entry.block)
    out.blocks += out.adopted
    return out


def _decode(writer: str, content: bytes) -> WriterLedger:
    ledger = decode_ledger(writer, content)
    if ledger.fault is not None:
        raise ledger.fault
    return ledger


def _read_sealed(store: Store, writer: str) -> WriterLedger | None:
    content = store.sealed_ledger(writer)
    return None if content is None else _decode(writer, content)
