"""A reader beside the receiver: the real `read`, which follows a host's store and goes on with its token.

In one form every look is a reading of its own that begins with the token of the last one; in the other one reading
lives on, in a thread that runs only while the timeline stands still. What was handed out is kept with the token, as who
writes a table keeps both in one transaction.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kcl_receiver import HoleInShard, Reading, read
from kcl_receiver.errors import BlockDamaged, BlockMissing, LedgerDamaged, StoreUnavailable
from kcl_receiver.proof.chain import LATE
from kcl_receiver.ranges import Position
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.query import Batch, Query
from kcl_receiver.store.objects import Checked, Stat
from kcl_receiver.store.store import Store
from simulation.stream import IDENTITY
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Host

MISSES_NOTHING = "a reader misses nothing"
REPAIRED = "a reader gets what repair took in"
STORED_AGAIN = "what expired and was stored again is read"
HALT = 0.1
"""So often a reader that lives on comes to a halt before it looks at something."""
HALT_BETWEEN = 0.4
"""So often where several hosts write to what it reads: what one of them says depends on what others said before."""
HALTS = 0.01, 2.0
"""For so many seconds."""
COLUMNS = ("shard_id", "sequence_number", "sub_sequence_number")
TRANSIENT = (StoreUnavailable, LedgerDamaged, BlockMissing, BlockDamaged)
"""What a killed generator left is not settled yet, or is not there any more: it is asked for again."""


class Record:
    """What a reader was given, by shard; it must rise.

    Attributes:
        read: Positions in the order in which they were handed out.
        holes: What was reported instead.
    """

    def __init__(self, broken: Callable[[str, str], None], name: str) -> None:
        self._broken = broken
        self._name = name
        self.read: dict[str, list[Position]] = defaultdict(list)
        self.holes: list[HoleInShard] = []

    def take(self, batch: Batch) -> None:
        """Take in a batch."""
        for shard, number, sub in zip(*(column.to_pylist() for column in batch.batch.columns), strict=True):
            seen = self.read[shard]
            position = Position(int(number), sub)
            if seen and position <= seen[-1]:
                self._broken("a reader gets each record once", f"{self._name}: {shard} {position} after {seen[-1]}")
            seen.append(position)

    def judge(
        self, stored: dict[str, set[Position]], invariant: str = MISSES_NOTHING, told: tuple[str, ...] = (LATE,)
    ) -> None:
        """Hold it against all that the store holds, but for what lies in holes that were reported, of some kinds."""
        for shard, positions in stored.items():
            missing = positions.difference(self.read.get(shard, ()))
            missing = {one for one in missing if not self._reported(shard, one, told)}
            if missing:
                self._broken(invariant, f"{self._name}: {shard} {min(missing)} was never handed out")

    def _reported(self, shard: str, position: Position, kinds: tuple[str, ...]) -> bool:
        return any(
            hole.shard == shard
            and hole.kind in kinds
            and (hole.after is None or hole.after < position)
            and (hole.through is None or position <= hole.through)
            and (hole.before is None or position < hole.before)
            for hole in self.holes
        )


class _Halting(Checked):
    """A host's store for a reader that may come to a halt before any look: others go on meanwhile."""

    halt: Callable[[], None] = staticmethod(lambda: None)

    def get(self, key: str) -> bytes | None:
        self.halt()
        return super().get(key)

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        self.halt()
        return super().list(prefix, deep=deep)


class _Thread:
    """A reading that waits in a thread of its own; one of the two sides runs at a time.

    Attributes:
        halted: It came to a halt in the middle of its look.
    """

    def __init__(self, begin: Callable[[Callable[[float], bool]], Reading], take: Callable[[Batch], None]) -> None:
        self._turn, self._idle = threading.Lock(), threading.Lock()  # one is free, for a moment, when a side ends
        self._turn.acquire()
        self._idle.acquire()
        self._stopped = False
        self.halted = False
        self.error: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._run, args=(begin, take), daemon=True)
        self._thread.start()

    def _run(self, begin: Callable[[Callable[[float], bool]], Reading], take: Callable[[Batch], None]) -> None:
        self._turn.acquire()
        try:
            for batch in begin(self._wait) if not self._stopped else ():
                take(batch)
        except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
            self.error = error
        self.ended = True
        self._idle.release()

    def _wait(self, _: float) -> bool:
        if not self._stopped:
            self._idle.release()
            self._turn.acquire()
        return self._stopped

    def halt(self) -> None:
        """Called in the thread: let the others go on before it does."""
        if threading.current_thread() is self._thread and not self._stopped:
            self.halted = True
            self._wait(0.0)

    def look(self) -> None:
        """Let it read all that is there now, or up to a halt."""
        self.halted = False
        self._turn.release()
        self._idle.acquire()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End it."""
        if not self.ended:
            self._stopped = True
            self._turn.release()
            self._thread.join()


class SimFollower(Process):
    """See the module. It lives on when its host dies: it may be anywhere."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "follower")
        self.rng = random.Random(f"{host.fleet.seed} {host.name} follower")
        place = _Halting(host.place.far_objects())
        place.halt = self._halt  # type: ignore[method-assign]
        self.store = Store(place)
        self.record = Record(host.fleet.watch.expect, f"{host.name}'s follower")
        self._token: str | None = None
        self._thread: _Thread | None = None
        self._lives_on = self.rng.random() < (0.8 if host.fleet.shared else 0.4)
        self._halts = HALT_BETWEEN if host.fleet.shared else HALT
        self._pauses = self.rng.choice(((0.5, 3.0), (3.0, 12.0)))
        if host.fleet.theme == "repair":
            self._pauses = 5.0, 20.0
        self._plan()

    def _plan(self) -> None:
        asleep = max(0.0, self.host.fleet.asleep_until - self.host.fleet.timeline.now)
        is_halted = self._thread is not None and self._thread.halted
        self.later(asleep + self.rng.uniform(*(HALTS if is_halted else self._pauses)), self._do)

    def _halt(self) -> None:
        if self._thread is not None and not self.host.fleet.quiet and self.rng.random() < self._halts:
            self._thread.halt()

    def _do(self) -> None:
        if self.host.fleet.quiet:
            return
        try:
            self.look()
        except TRANSIENT as error:
            if self.tracing:
                self.say(f"reads again later: {error}")
        self._plan()

    def look(self) -> None:
        """Read what is new.

        Raises:
            ReceiverError: It cannot be read now.
        """
        try:
            if self._lives_on:
                if self._thread is None:
                    self._thread = _Thread(self._begin, self._take)
                self._thread.look()
            else:
                reading = self._begin(lambda _: True)
                for batch in reading:
                    self._take(batch)
                self._token = reading.token
        except BaseException:
            self._thread = None
            raise

    def finish(self) -> None:
        """Look once more, then read on past the holes at which a follower waits because something may still fill them.

        Raises:
            ReceiverError: It cannot be read.
        """
        self.look()
        self.close()
        for batch in read(self.store, columns=COLUMNS, token=self._token, on_hole=lambda _: None, stream=IDENTITY):
            self._take(batch)

    def _begin(self, wait: Callable[[float], bool]) -> Reading:
        query = Query(follow=True, report=self.record.holes.append, wait=wait)
        stream = None if self._token else IDENTITY
        return open_reading(self.store, query, columns=COLUMNS, token=self._token, stream=stream)

    def _take(self, batch: Batch) -> None:
        if self.tracing:
            self.say(f"reads {batch.batch.num_rows} records of {', '.join(batch.shards)}")
        self.record.take(batch)
        self._token = batch.token

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._thread is not None:
            self._thread.stop()


def read_whole(store: Store, record: Record) -> None:
    """Read a store from the first record to the last, without a token.

    Raises:
        ReceiverError: It cannot be read.
    """
    for batch in read(store, columns=COLUMNS, on_hole=record.holes.append, stream=IDENTITY):
        record.take(batch)
