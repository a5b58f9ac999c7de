"""What the generator's state machine asks for and what takes time: storing, the ledger, questions to AWS.

Everything here blocks and runs in threads. Two rules: a block's ledger entry is appended only after the block is
durable (the state machine sees to the order), and a call that failed is repeated with the very same bytes, because
nobody knows whether it took effect.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from kcl_receiver import __version__
from kcl_receiver.errors import LedgerDamaged, ReceiverError, StoreUnavailable, WriterFenced
from kcl_receiver.generator.carried import CarriedOver, Needs, first_clock
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    ConfirmShardEnd,
    LedgerRecord,
    LookFurther,
    LookUp,
    MarksRecord,
    Measurement,
    MoreHeld,
    SessionRecord,
    ShardFacts,
    WriteBlock,
    WrittenBlock,
)
from kcl_receiver.generator.lookback import PAGE, LookBack
from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.generator.rollover import LEDGER_LINES, Extent, Rollover, begins_at, oldest_in_reach
from kcl_receiver.generator.stream import StreamView, boot_millis, confirm_shard_end, shard_facts
from kcl_receiver.ids import began_at, block_id, writer_id, writer_of
from kcl_receiver.ranges import AT_TIMESTAMP, Position, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, EncodedBlock, encode_block
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Closed,
    Entry,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    StoreState,
    WriterStarted,
)
from kcl_receiver.store.ledger.merging import merge_closed
from kcl_receiver.store.ledger.neighbours import Neighbours
from kcl_receiver.store.ledger.store_log import EMPTY, Overtaken, StoreLog, began, settled
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.writer import LedgerWriter, fenced
from kcl_receiver.store.store import Store

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


NOTHING = Position(0)
"""Before all records."""


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """The first records of a session that began at a starting point have not come yet; and what is known of the rest.

    Until they have, nothing shows which stream they will be of: if an empty stream is deleted and made again, KCL can
    begin anew at the same starting point and never notice. From a position it cannot: the new stream refuses it.
    """

    rest: MoreHeld


class OwnWriters(Protocol):
    """Keeps which writers of this host may have a ledger to be closed, from one generator to the next."""

    def read(self) -> list[str]:
        """Return the ids that were noted last; none if they are not known any more."""

    def note(self, writers: Iterable[str]) -> None:
        """Keep these ids. May raise `StoreUnavailable`."""


def wall_millis() -> int:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Return what tells one boot of this host from another: CLOCK_BOOTTIME belongs to it. Empty if it is not told."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class GeneratorIO:
    """The generator's hands: one method for each effect that takes time. `prepare` comes first.

    `write_block` and `look_up` may run in several threads at once, `append` in one.

    Args:
        store: Where blocks and ledger go.
        view: The stream.
        application: Owner of the store.
        compression: See `encode_block`.
        store_again: Store again what the ledger says is stored.
        new_writer: Returns an id that nobody had; it is given its time, milliseconds since the epoch.
        ledger_lines: See `LEDGER_LINES`.
        page: See `LookBack`.
        begins: The time of AT_TIMESTAMP, milliseconds since the epoch; -1 if that is not where reading begins.
        lock: Guards what the threads share.
        own: The writers of this host, where others write to the store, too; if it is not given, none do.
    """

    def __init__(
        self,
        store: Store,
        view: StreamView,
        application: str,
        compression: str,
        *,
        store_again: bool,
        new_writer: Callable[[int], str] = writer_id,
        ledger_lines: int = LEDGER_LINES,
        page: int = PAGE,
        begins: int = -1,
        lock: AbstractContextManager[object] | None = None,
        own: OwnWriters | None = None,
    ) -> None:
        self._store = store
        self._view = view
        self._application = application
        self._compression = compression
        self._store_again = store_again
        self._new_writer = new_writer
        self._page = page
        self._begins = begins
        self._lock = threading.Lock() if lock is None else lock  # guards the three below
        self._carried = CarriedOver()
        self._ledger: LedgerWriter
        self._block_ids: dict[int, str] = {}
        self._rollover = Rollover(ledger_lines, store.objects.most_appends)
        self._log = StoreLog(store)
        self._found = EMPTY  # what the log would say if it were not lost
        self._next: WriterStarted | None = None
        self._first: tuple[LedgerWriter, list[Entry]] | None = None
        self._own = None if own is None or store.objects.locks else own
        self._neighbours = Neighbours(store, self._log, self._heard, alone=self._own is None)
        self._closing: list[tuple[LedgerWriter, list[Entry]]] = []
        self._ended: list[str] = []
        self._to_merge: list[str] = []  # oldest first
        self._appending: tuple[tuple[LedgerRecord, ...], list[Entry]] | None = None
        self._encoded: dict[int, EncodedBlock] = {}
        self.stream: StreamIdentity | None = None

    def prepare(self) -> StreamIdentity:
        """Claim the store, load the ledger, find the stream. Repeatable after an error that mends.

        Raises:
            StoreError: The store or its ledger can't be used.
            StreamError: The stream can't be read.
        """
        self._store.claim(self._application)
        self._store.hold()
        own = None if self._own is None else self._own.read()
        gives_up = self._neighbours.gives_up
        taken = None if self._next is not None else take_over(self._store, self._log, own, gives_up)
        self.stream = self._view.describe(self.stream)
        if taken is not None:
            clock = first_clock(taken, self.stream, self._view.measured, boot_id(), boot_millis())
            self._carried = CarriedOver.of(taken, self.stream, clock, wall_millis())
            writer = self._new_writer(begins_at(wall_millis(), self._newest(taken.state)))
            self._found, self._ended = taken.state, taken.ours
            self._neighbours.took_over(taken.state, taken.ledgers, taken.beside)
            self._to_merge = list(taken.state.kept)  # who closed one may have been killed before it came to that
            self._closing = list(taken.closing(self._store, writer, wall_millis()))
            self._set_next(writer)
        try:
            self._begin_ledger()
        except LedgerDamaged as error:
            if self._store.objects.locks:
                raise
            # A line that a dead writer sent has arrived since its ledger was read: what it says is taken over, too.
            self._next, self._closing = None, []
            raise StoreUnavailable(f"{error.message}, as it was read a moment ago", "it is read again") from error
        return self.stream

    def _newest(self, state: StoreState) -> int | None:
        """Return when the newest writer began, by its id.

        Raises:
            LedgerDamaged: That is no time.
            StoreUnavailable: The store cannot be listed now.
        """
        last = state.last or max((writer_of(block) for block, _ in self._store.list_blocks()), default="")
        try:
            return began_at(last) if last else None
        except ValueError as error:
            raise LedgerDamaged(
                f"the id of the newest writer in {self._store.url}, {last}, holds no time",
                "this program makes no such name: move its files out of the store, then run `kcl-receiver repair`",
            ) from error

    @property
    def writer(self) -> str:
        """Id of the present ledger."""
        return self._ledger.writer

    def _set_next(self, writer: str) -> None:
        """Let the next ledger be one of this writer."""
        now = wall_millis()
        self._next, self._first = WriterStarted(writer, socket.gethostname(), os.getpid(), now, __version__), None
        self._rollover.made(now)

    def measure(self) -> Measurement:
        """Ask the stream for its clock, its retention and its open shards.

        Raises:
            StreamError: It does not tell, or it is gone or another one.
        """
        self._view.measure(self._identity())
        return self.measured

    @property
    def measured(self) -> Measurement:
        """What the stream has said of itself last."""
        return self._view.measured._replace(awaited=self._own is not None)

    @property
    def has_housework(self) -> bool:
        """Whether there is ever anything for `keep_house` to do."""
        return self._own is not None or self._store.objects.most_appends is not None

    def keep_house(self, *, measured: bool) -> None:
        """Do what nobody waits for: close the ledger of a dead writer, merge those that are closed.

        What fails is logged, and done when this is called again; or `compact` merges what is left.

        Args:
            measured: The service's clock was measured just now: whether others are dead is looked at then.
        """
        if measured:
            try:
                lines = self._ledger.tail.number
                dead = self._neighbours.close_dead(self.writer, wall_millis(), boot_millis(), lines)
                self._to_merge += [dead] if dead else []
            except ReceiverError as error:
                log.warning("%s; whether other writers are dead is looked at again", error.message)
        for writer in list(self._to_merge):
            try:
                merge_closed(self._store, writer)
                self._to_merge.remove(writer)
            except ReceiverError as error:
                log.warning("%s; it is tried again", error.message)

    def _begin_ledger(self) -> None:
        """Close the ledgers before the next one, then make its first lines durable.

        In this order: who follows the ledgers, one after the other, finds nothing new in one that has a successor.

        Raises:
            StoreUnavailable: They are not, or nobody knows; to be repeated.
        """
        while self._next is not None:
            self._close_those_before()
            self._enter_log()
            ledger = self._append_first_lines(self._next)
            if self._own is None or ledger.writer in self._log.newest().state.living:
                with self._lock:
                    self._to_merge += [writer for writer in self._ended if writer not in self._to_merge]
                    self._ledger, self._next, self._first, self._ended = ledger, None, None, []
                self._rollover.began(_extent(ledger))
                return
            # The log was damaged, and has begun anew: who did that found no ledger of this writer yet.
            self._closing = [(ledger, [Closed(wall_millis(), ledger.writer)])]
            self._set_next(self._new_writer(begins_at(wall_millis(), began_at(ledger.writer))))

    def _close_those_before(self) -> None:
        while self._closing:
            ledger, last = self._closing[0]
            try:
                ledger.append(last)
            except WriterFenced:
                raise
            except LedgerDamaged as error:
                if self._own is None or not self._neighbours.gives_up(ledger.writer):
                    raise
                log.warning("%s; it stays without its last line, and `kcl-receiver repair` mends it", error.message)
            del self._closing[0]  # what follows may fail, and nothing comes after a last line

    def _append_first_lines(self, started: WriterStarted) -> LedgerWriter:
        if self._first is None:  # made once, and repeated until durable
            self._neighbours.look()  # the first lines say what is in the ledgers before
            started = replace(started, beside=tuple(sorted(self._neighbours.beside)))
            with self._lock:
                first = self._carried.first_entries(started, self._identity(), self._view.retention_hours)
            self._first = LedgerWriter(self._store, started.writer), first
        ledger, first = self._first
        ledger.append(first)
        return ledger

    def _enter_log(self) -> None:
        """Let the log say that the next writer begins; its id is the greatest by then.

        Raises:
            StoreUnavailable: It does not, or nobody knows; to be repeated.
        """
        while self._next is not None:
            started = self._next
            self._neighbours.begins(started.writer)
            if self._own is not None:
                self._own.note([*self._ended, started.writer])
            try:
                state = self._log.change(partial(self._begun, started))
            except Overtaken as other:
                writer = self._new_writer(begins_at(wall_millis(), began_at(other.last)))
                if writer <= other.last:
                    raise ValueError(f"{writer} is to follow {other.last}, and does not sort behind it") from None
                self._set_next(writer)
            else:
                return self._neighbours.began(started.writer, state)
        return None

    def _begun(self, started: WriterStarted, state: StoreState) -> StoreState:
        read, needs = self._needs()
        known = self._found if state == EMPTY else state
        # Not those that are closed now: what the next one repeats of them is not there yet.
        known = self._settled(read, needs, known, started.writer)
        return began(known, started, self._ended, self._identity(), needs.forgotten, needs.oldest)

    def _settled(self, read: set[str] | None, needs: Needs, state: StoreState, by: str) -> StoreState:
        return settled(state, by, wall_millis(), needs.ledgers, needs.forgotten, read=read, oldest=needs.oldest)

    def _needs(self) -> tuple[set[str] | None, Needs]:
        """Return which closed ledgers were read, all if None, and then what of them is needed."""
        read = None if self._own is None else self._neighbours.has_read()  # first: more may be read meanwhile
        with self._lock:
            return read, self._carried.needs(self._view.retention_hours)

    def _heard(self, entries: Sequence[Entry]) -> None:
        with self._lock:
            self._carried.heard(entries, self._identity(), wall_millis())

    def _identity(self) -> StreamIdentity:
        if self.stream is None:
            raise StoreUnavailable("the generator is not ready yet")
        return self.stream

    def look_up(self, effect: LookUp) -> ShardFacts:
        """Ask stream and ledger about a session's shard.

        Raises:
            StreamError: The stream is gone or another one, or AWS does not tell.
            StoreUnavailable: The store does not tell which blocks are there.
        """
        stream = self._identity()
        seen = self._neighbours.look()
        with self._lock:
            self._carried.session_begins(effect.shard)
            reaches = self._carried.recent.reaches(effect.shard, effect.after)
            oldest = oldest_in_reach(self._carried.recent.newest, self._view.retention_hours)
            beyond = self._carried.recent.beyond(effect.shard, effect.after)
            arrival = None
            if isinstance(effect.after, Position):
                arrival = self._carried.recent.arrival_of(effect.shard, effect.after)
        # Not under the lock: what is recorded meanwhile is of other shards, and must not wait for these looks.
        found = MoreHeld((), None, None)
        if not reaches:
            # The lease was reset to before the last checkpoint: what was forgotten is in the ledger.
            back = LookBack(self._store, stream, effect.shard, effect.after, oldest, self._page)
            found = self._next_page(back)
            arrival = back.arrival
        elif not self._store_again:
            found = MoreHeld(tuple(present_ranges(self._store, beyond)), None, None)
        facts = shard_facts(self._view, stream, effect.shard, effect.after, found.held, known=arrival is not None)
        if not isinstance(effect.after, Position):
            found = MoreHeld((), NOTHING, _Unconfirmed(found))
        begins = self._begins if effect.after == AT_TIMESTAMP else -1
        facts = replace(facts, known_to=found.known_to, more=found.more, begins=begins, seen=seen)
        with self._lock:
            return replace(facts, read_until=self._carried.marks.until(effect.shard, effect.after, facts))

    def look_further(self, effect: LookFurther) -> MoreHeld:
        """Return what else of a session's shard is held, as delivery advances.

        Raises:
            StreamError: The stream is gone or another one, or AWS does not tell.
            LedgerDamaged: An entry is missing or altered.
            StoreUnavailable: The store does not tell which blocks are there.
        """
        if isinstance(effect.more, _Unconfirmed):
            self._view.describe(self._identity())
            return replace(effect.more.rest, held=())
        if not isinstance(effect.more, LookBack):
            raise TypeError("there is nothing to look for")
        return self._next_page(effect.more)

    def _next_page(self, back: LookBack) -> MoreHeld:
        page = back.next_page()
        if self._store_again:
            return MoreHeld((), None, None)
        return MoreHeld(page.held, page.known_to, None if page.known_to is None else back)

    @property
    def ranges_in_memory(self) -> int:
        """Number of ranges kept for the start of sessions."""
        return len(self._carried.recent)

    def confirm_shard_end(self, effect: ConfirmShardEnd) -> Measurement:
        """Return what the stream says of itself if it says that the shard is closed.

        Raises:
            StreamError: It does not.
        """
        return confirm_shard_end(self._view, self._identity(), effect.shard)

    def write_block(self, effect: WriteBlock) -> WrittenBlock:
        """Encode a block, checking every range's checksum, and make it durable.

        Raises:
            BlockDamaged: The records are not those that the processor sent.
            StoreUnavailable: It was not stored, or nobody knows; to be repeated.
        """
        with self._lock:
            block = self._block_ids.setdefault(effect.number, block_id(self._ledger.writer, effect.number))
        encoded = self._encoded.get(effect.number)
        if encoded is None:
            ranges = [BlockRange(part.range, part.columns) for part in effect.parts]
            encoded = encode_block(block, writer_of(block), self._identity(), ranges, self._compression)
            self._encoded[effect.number] = encoded
        self._store.put_block(block, encoded.payload)
        del self._encoded[effect.number]
        return WrittenBlock(block, encoded.ranges, encoded.rows, memoryview(encoded.payload).nbytes)

    def append(self, effect: Append, checkpoints: Mapping[str, Position | str]) -> bool:
        """Make ledger entries durable, then known to `look_up`; or let the next ledger begin, see `Append`.

        Args:
            effect: The entries.
            checkpoints: The last checkpoint of each shard that KCL has taken, a position or SHARD_END: what ends
                before it is kept in memory no longer.

        Returns:
            Whether this ledger is due to give way to the next one.

        Raises:
            StoreUnavailable: They were not stored, or nobody knows; the same effect is to be repeated.
        """
        if not effect.records:
            self._change_ledger()
            self._settle_ledgers()
            return False
        if self._appending is None or self._appending[0] is not effect.records:
            # Made once: an entry holds the time, and what is repeated must be the same to the byte.
            self._appending = (effect.records, [self._entry(one, checkpoints) for one in effect.records])
        entries = self._appending[1]
        self._store.hold()  # still: its lock may have been removed, and another generator begun
        if self._neighbours.is_over(self.writer):
            raise fenced(f"the store's log calls writer {self.writer} ended: others have taken it for dead")
        self._ledger.append(entries)
        with self._lock:
            for record in effect.records:
                if isinstance(record, BlockRecord):
                    self._block_ids.pop(record.number, None)
            self._carried.add(entries, self.stream)
            self._carried.checkpointed(checkpoints)
        self._appending = None
        self._settle_ledgers()
        return self._next_at() is not None

    def _settle_ledgers(self) -> None:
        """Let the next start read no ledger that no session needs any more; if it fails, it is tried again."""
        state = self._neighbours.state
        if not state.kept:
            return
        read, needs = self._needs()
        if self._settled(read, needs, state, self.writer) == state:
            return
        try:
            self._neighbours.changed(self._log.change(lambda state: self._settled(read, needs, state, self.writer)))
        except (StoreUnavailable, LedgerDamaged) as error:
            log.warning("%s; it is tried again", error.message)

    def _next_at(self) -> int | None:
        ledger = self._ledger
        return self._rollover.next_at(ledger.writer, _extent(ledger), wall_millis())

    def _change_ledger(self) -> None:
        """Begin a new ledger when this one is long, or its day is over: a block lies in the directory of that day.

        Raises:
            StoreUnavailable: See `_begin_ledger`.
        """
        if self._next is None:
            at = self._next_at()
            if at is None:
                return
            try:
                self._log.newest()
            except (LedgerDamaged, StoreUnavailable) as error:
                log.warning("%s: %s; until then the present ledger goes on", error.message, error.hint)
                return
            ledger = self._ledger
            self._closing = [(ledger, [Closed(wall_millis(), ledger.writer)])]
            self._ended = [ledger.writer]
            self._set_next(self._new_writer(at))
        try:
            self._begin_ledger()
        except WriterFenced:
            raise
        except LedgerDamaged as error:  # the log, just now: it is waited for
            raise StoreUnavailable(error.message, error.hint) from error

    def _entry(self, record: LedgerRecord, checkpoints: Mapping[str, Position | str]) -> Entry:
        stream = self._identity()
        now = wall_millis()
        if isinstance(record, BlockRecord):
            written = record.written
            if writer_of(written.block) != self.writer:
                raise ValueError(f"block {written.block} does not belong into the ledger of {self.writer}")
            return BlockStored(written.block, stream, written.ranges, written.rows, written.size, now)
        if isinstance(record, SessionRecord):
            facts = record.facts
            return SessionStarted(
                session=record.session,
                shard=record.shard,
                after=record.after,
                rank=record.rank,
                stream=stream,
                parents=facts.parents,
                hash_range=facts.hash_range,
                retention_hours=facts.retention_hours,
                time=record.time if record.time >= 0 else now,
                begins=facts.begins,
                seen=facts.seen,
            )
        if isinstance(record, MarksRecord):
            return self._marks_taken(record, stream, checkpoints)
        return ShardEnded(record.session, record.shard, stream, record.last, record.time if record.time >= 0 else now)

    def _marks_taken(
        self, record: MarksRecord, stream: StreamIdentity, checkpoints: Mapping[str, Position | str]
    ) -> MarksTaken:
        told = {} if self._own is None else checkpoints
        taken = MarksTaken(
            stream,
            record.time,
            record.measured,
            record.retention_hours,
            boot_id(),
            record.offset,
            record.marks,
            record.late,
            record.sessions,
            {shard: one for shard, one in told.items() if isinstance(one, Position)},
            tuple(sorted(shard for shard, one in told.items() if not isinstance(one, Position))),
        )
        self._carried.measured(taken)
        return taken


def _extent(ledger: LedgerWriter) -> Extent:
    return Extent(ledger.tail.number, ledger.size, ledger.appends)
