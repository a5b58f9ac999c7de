"""What a new writer takes over from those that wrote to the store before it, or write to it beside it.

A store's ledgers are of years, and a generator must not read all of them at every start. It reads those that the
store's log names: of the writers that were living, which have ended, and those that are kept, in which there is
something that sessions to come need. Those of the living ones that have ended are closed: their last line says that no
other follows. In a store that one generator at a time can write to, that is all of them; else the ones of this host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Entry,
    Living,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    StoreState,
    Tail,
    WriterLedger,
    decode_ledger,
    decode_more,
)
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog
from kcl_receiver.store.ledger.transaction import acknowledged, load_day, taken_in
from kcl_receiver.store.ledger.writer import LedgerWriter, rebuild_from_footers, unclosed
from kcl_receiver.store.store import Store

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Takeover:
    """What is there when a writer begins.

    Attributes:
        state: What the store's log says.
        carried: What the ledgers repeat of marks, and of the newest arrival.
        blocks: The entries of all blocks in the ledgers, those that are adopted, and those that `repair` recorded of
            the same writers and that are gone: others may hold their ranges now.
        begun: The sessions in the ledgers. The position after which one began is a checkpoint that KCL had taken.
        ended: The ends of shards in the ledgers. Whether KCL has recorded them is not known.
        read: The entries of the ledgers that say how far shards were read.
        adopted: Blocks that are in the store and in no ledger, by their writer, which was killed between block and
            ledger: they are recorded in its ledger before it is closed.
        unreadable: Blocks like these whose footer cannot be read, with the reason.
        ledgers: The ledgers that were read, by writer.
        ours: The writers that the log takes for living, and that have ended.
        alone: Whether no other generator can write to the store.
    """

    state: StoreState
    alone: bool = True
    ours: list[str] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    blocks: list[BlockStored] = field(default_factory=list)
    begun: list[SessionStarted] = field(default_factory=list)
    ended: list[ShardEnded] = field(default_factory=list)
    read: list[MarksTaken] = field(default_factory=list)
    adopted: dict[str, list[BlockStored]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    ledgers: dict[str, WriterLedger] = field(default_factory=dict)

    @property
    def to_close(self) -> list[str]:
        """The ledgers that are to be closed. A start that was killed may have closed one, and not have said so.

        Nothing is read behind damage, so a damaged one is not closed: the log says that its writer has ended.
        """
        ours = (self.ledgers[writer] for writer in self.ours)
        return [ledger.writer for ledger in ours if not ledger.is_closed and ledger.fault is None]

    @property
    def beside(self) -> list[str]:
        """The writers that go on writing, and whose ledgers were read."""
        return [writer for writer in self.state.living if writer in self.ledgers and writer not in self.ours]

    def of_this_host(self) -> Iterator[Entry]:
        """Yield what the last writers of this host recorded; if nobody else can write, what all did that were read."""
        if self.alone:
            for some in (self.blocks, self.begun, self.ended, self.read):
                yield from some
        else:
            yield from (one for one in self.blocks if writer_of(one.block) in self.ours)
            for writer in self.ours:
                yield from (one for one in self.ledgers[writer].entries if not isinstance(one, BlockStored))

    def closing(self, store: Store, by: str, time: int) -> Iterator[tuple[LedgerWriter, list[Entry]]]:
        """Yield for each ledger that is to be closed what appends to it, and its last lines.

        Args:
            store: The store.
            by: Id of the writer that closes it.
            time: Milliseconds since the epoch.
        """
        for writer in self.to_close:
            last: list[Entry] = [*self.adopted[writer], Closed(time, by)]
            yield LedgerWriter(store, writer, self.ledgers[writer].tail), last


def take_over(
    store: Store,
    log: StoreLog | None = None,
    own: Collection[str] | None = None,
    gives_up: Callable[[str], bool] = lambda _: False,
) -> Takeover:
    """Return what a new writer takes over, all of it durable but for what is adopted: `Takeover.closing` records that.

    The caller holds the store. Where that keeps others out, every writer there has ended.

    Args:
        store: The store.
        log: Its log, if it was read before.
        own: The writers that have ended, where others may go on. None is all.
        gives_up: Is told the writer of another's ledger that cannot be read now; returns whether to go on without it.

    Raises:
        LedgerDamaged: An entry is missing or altered, and no other generator can write to the store; or the log is
            damaged. Where others go on meanwhile, one bad ledger keeps nobody from starting.
        StoreUnavailable: The store cannot be read now, or something in it not be made durable.
    """
    newest = (log or StoreLog(store)).newest()
    out = Takeover(newest.state if newest.number else rebuilt(store), store.objects.locks or own is None)
    out.ours = sorted(writer for writer in out.state.living if out.alone or writer in (own or ()))
    for writer in sorted({*out.state.living, *out.state.kept}):
        others = not out.alone and writer not in out.ours
        try:
            content = store.ledger(writer)
        except StoreUnavailable as error:
            if not (others and gives_up(writer)):
                raise
            _logger.warning("%s; what is in it is not known here, and may be stored twice", error.message)
            continue
        ledger = out.ledgers[writer] = decode_ledger(writer, content or b"")
        is_living = writer in out.state.living
        fault = ledger.fault
        if fault is None and not ledger.is_closed:
            lines = ledger.tail.number
            fault = unclosed(store, writer, lines, is_living=is_living)
            if fault is not None and not others and acknowledged(store, writer, lines + 1):
                fault = None
        if fault is not None:
            if out.alone:
                raise fault
            _logger.warning("%s; what follows is not known here, and may be stored twice", fault.message)
        if writer in out.ours and content is not None and ledger.fault is None:
            store.settle_ledger(writer, content[: content.rfind(b"\n") + 1])
        _take(out, ledger)
    _adopt(store, out, everything=not newest.number)
    return out


def close(store: Store, writer: str, by: str, time: int, tail: Tail, recorded: Collection[str]) -> bool:
    """Close the ledger of a writer that others have found to be dead, with the blocks that it could not record.

    If it is not dead, it finds its ledger closed, and begins anew. Nothing is read behind damage, so in a damaged one
    only the key is taken under which its writer would go on. Repeatable.

    Args:
        store: The store, in which nothing is torn.
        writer: The writer.
        by: Id of the writer that closes it.
        time: Milliseconds since the epoch.
        tail: The last line that was read of it; number 0 and `first_prev` if none was.
        recorded: The blocks that it names up to there.

    Returns:
        False if it has grown since that line was read: its writer lives.

    Raises:
        LedgerDamaged: The writer has just appended an entry.
        StoreUnavailable: The store cannot be read now, or nobody knows whether it is closed.
    """
    entries, tail, fault = decode_more(writer, store.ledger_from(writer, tail.number + 1), tail)
    if fault is not None:
        store.fence_ledger(writer)
        return True
    if entries:
        return isinstance(entries[-1], Closed)
    known = {*recorded, *(entry.block for entry in taken_in(store, day_of(writer)))}
    unreadable: dict[str, str] = {}  # it is in no ledger, and `repair` says so
    found = rebuild_from_footers(store, store.blocks_of(writer), known, unreadable)
    LedgerWriter(store, writer, tail).append([*found, Closed(time, by)])
    return True


def rebuilt(store: Store, known: StoreState = EMPTY) -> StoreState:
    """Return what holds of a store whose log is lost, or has none yet: all ledgers are needed.

    A ledger without its last line is of a living writer, or has lost its end. Where one generator at a time can write,
    none but the newest can be the former, since the ones before it were closed before it began.

    What is taken for closed is durable when this returns.

    Args:
        store: The store.
        known: What held before, by an entry that can be read.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    writers = store.writers()
    closed = {writer for writer in writers if writer <= known.last and writer not in known.living}
    for writer in writers:
        content = b"" if writer in closed else store.ledger(writer) or b""
        if decode_ledger(writer, content).is_closed:
            store.settle_ledger(writer, content)  # who closed it may have been killed before that was durable
            closed.add(writer)
    if store.objects.locks:
        closed.update(writers[:-1])
    living = [writer for writer in writers if writer not in closed]
    return StoreState(
        living={writer: known.living.get(writer, Living("", 0, "", 0)) for writer in living},
        kept=tuple(sorted({*writers, *known.kept} - {*living})),
        last=max([*writers[-1:], known.last]),
    )


def _take(out: Takeover, ledger: WriterLedger) -> None:
    for entry in ledger.entries:
        if isinstance(entry, Carried):
            out.carried.append(entry)
        elif isinstance(entry, BlockStored):
            out.blocks.append(entry)
        elif isinstance(entry, SessionStarted):
            out.begun.append(entry)
        elif isinstance(entry, ShardEnded):
            out.ended.append(entry)
        elif isinstance(entry, MarksTaken):
            out.read.append(entry)


def _adopt(store: Store, out: Takeover, *, everything: bool) -> None:
    """Find what maintenance has recorded of these writers, and the blocks that no ledger names."""
    known = {entry.block for entry in out.blocks}
    # `repair` may have recorded the last ones, and compaction put others in their place: those are held, too.
    # Where lines are lost, nothing leads to those others.
    lost = {
        day_of(writer)
        for writer, one in out.ledgers.items()
        if one.fault is not None or (writer in out.state.kept and not one.is_closed)
    }
    for day in store.maintenance_days() if everything else sorted({*map(day_of, out.ledgers)}):
        whole = everything or day in lost
        made = load_day(store, day).blocks.values() if whole else taken_in(store, day)
        for entry in made:
            if entry.block not in known and (whole or writer_of(entry.block) in out.ledgers):
                known.add(entry.block)
                out.blocks.append(entry)
    for writer in out.ours:  # of a damaged ledger, too: what `repair` is going to record is held
        if out.ledgers[writer].is_closed:
            continue
        found = out.adopted[writer] = rebuild_from_footers(store, store.blocks_of(writer), known, out.unreadable)
        for entry in found:
            store.settle_block(entry.block)
        known.update(entry.block for entry in found)
        out.blocks += found
    if everything:  # in no ledger: they are held, and `repair` records them
        out.blocks += rebuild_from_footers(store, store.list_blocks(), known, out.unreadable)
