"""The live state of a receiver on one host: what each shard and the host are doing, and whether anything is being read.

One struct, `Live`. The generator reports its part as JSON (`GeneratorState`), the lease table gives the other
(`LeaseState`), and `look` puts them together and judges them. `status`, `run` and `demo` render what it found as text,
as JSON and as an exit code; nothing else decides whether a shard is silent, or whether anything is being read.

Pure: no I/O and no clock. Every time is an age in seconds, told by whoever took it.

An idle stream is not a silent one: KCL calls a processor with empty batches as well, and the processor passes that on
every five seconds (`processor.core`). What waits for our own store is not silent either.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import msgspec

from kcl_receiver.errors import EXIT_AMISS, EXIT_ENVIRONMENT, EXIT_OK, EXIT_STORE, EXIT_STREAM, ReceiverError
from kcl_receiver.status.report import CoreState, GeneratorState, LeaseState, ShardState, WriterState

NOTED_SECONDS = 10.0
"""An error that is being retried for less than this is not worth a word: most are gone by then."""


class Condition(enum.Enum):
    """What is the matter with a shard on this host."""

    READING = "reading"
    STORING = "waits for the store"
    OPENING = "opening"
    SILENT = "silent"
    AWAY = "not connected"
    STARTING = "no processor yet"
    UNOWNED = "no owner"
    ELSEWHERE = "other worker"
    HOLD = "on hold"
    LEFT = "lease lost"
    ENDED = "ended"


ALIVE = frozenset({Condition.READING, Condition.STORING, Condition.OPENING})
"""Records of the shard are read here, or would be if our own store took them."""

LOST = frozenset({Condition.SILENT, Condition.AWAY})
"""There was a processor, and nothing is heard of it."""

HELD = ALIVE | LOST
"""A processor of this host has it, and so there is a lease."""

GONE = frozenset({Condition.ENDED, Condition.ELSEWHERE, Condition.LEFT, Condition.STARTING, Condition.UNOWNED})
"""No processor of this host has it; if there was one, it left in good order."""

SETTLED = frozenset({Condition.ELSEWHERE, Condition.ENDED, Condition.HOLD})
"""Nothing is to be read here; what is on hold is told for itself."""


class ShardLive(msgspec.Struct, frozen=True, kw_only=True):
    """One shard, from all that is known of it.

    Attributes:
        shard: Shard id.
        owner: The worker that holds its lease; None if none does, or if that is not known.
        condition: See `Condition`.
        seconds: Since when nothing was heard of its processor, where that is silent or not connected.
    """

    shard: str
    owner: str | None
    condition: Condition
    seconds: float | None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator should know.

    Attributes:
        key: Stays the same for as long as it is the same problem.
        text: What is wrong, and since when.
        hint: What to do; may be empty.
        exit_code: That of `status`.
        seconds: For how long, None if that is not known.
    """

    key: str
    text: str
    hint: str
    exit_code: int
    seconds: float | None = None


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        generator: None if none answers.
        leases: None if there is no lease table, or if it was not read.
        shards: Every shard that generator or lease table know.
        phase: What KCL is doing until records come, in words.
        reading: Whether this host reads anything.
        problems: The gravest first.
        writers: All generators that write to the store; None if the store was not looked at, or cannot be.
    """

    generator: GeneratorState | None
    leases: tuple[LeaseState, ...] | None
    shards: tuple[ShardLive, ...]
    phase: str
    reading: bool
    problems: tuple[Problem, ...]
    writers: tuple[WriterState, ...] | None = None

    @property
    def unread(self) -> bool:
        """Whether something that should be read here is not."""
        return any(one.key.startswith(UNREAD) for one in self.problems)

    @property
    def lost(self) -> bool:
        """Whether a processor is silent or not connected."""
        return any(one.condition in LOST for one in self.shards)

    @property
    def settled(self) -> bool:
        """Whether nothing is to be read here: all shards are with other workers, or have ended."""
        return bool(self.shards) and all(one.condition in SETTLED for one in self.shards)

    @property
    def exit_code(self) -> int:
        """That of the gravest problem."""
        return self.problems[0].exit_code if self.problems else EXIT_OK


def look(
    generator: GeneratorState | ReceiverError,
    leases: Sequence[LeaseState] | ReceiverError | None,
    *,
    ours: Callable[[str], bool],
    start_seconds: float,
    said: str = "",
    writers: Sequence[WriterState] | ReceiverError | None = None,
) -> Live:
    """Put together what is known, and judge it.

    Args:
        generator: What the generator reports, or why it does not.
        leases: KCL's leases; None if there is no table; or why it cannot be read.
        ours: Tells whether a lease's owner is this host's daemon.
        start_seconds: How long KCL may take to its first record.
        said: The last error in the daemon's log.
        writers: The generators that write to the store; None if it was not looked at; or why it cannot be.
    """
    state = None if isinstance(generator, ReceiverError) else generator
    rows = None if leases is None or isinstance(leases, ReceiverError) else tuple(leases)
    shards = _shards(state, rows, ours)
    live = Live(
        generator=state,
        leases=rows,
        shards=shards,
        phase=_phase(state, leases, shards),
        reading=any(one.condition in ALIVE for one in shards),
        problems=(),
        writers=None if writers is None or isinstance(writers, ReceiverError) else tuple(writers),
    )
    found = [
        *([_no_generator(generator)] if isinstance(generator, ReceiverError) else []),
        *_failing(state),
        *_stuck(state, shards),
        *([_no_writers(writers)] if isinstance(writers, ReceiverError) else []),
        *([_no_leases(leases)] if isinstance(leases, ReceiverError) else []),
        *([_no_table()] if leases is None and any(one.condition in HELD for one in shards) else []),
        *_silence(live, start_seconds, said),
        *_on_hold(state),
    ]
    return msgspec.structs.replace(live, problems=tuple(found))


def condition(
    state: ShardState | None, lease: LeaseState | None, ours: Callable[[str], bool], generator: CoreState | None
) -> Condition:
    """Return what is the matter with one shard."""
    if (lease is not None and lease.ended) or (state is not None and state.shard_end):
        return Condition.ENDED
    of_session = None if state is None or generator is None else _of_session(state, generator)
    if of_session is not None and of_session not in LOST:
        return of_session  # whatever the lease table says, it may be older
    owner = None if lease is None else lease.owner
    if owner is not None and not ours(owner):
        return Condition.ELSEWHERE
    if of_session is not None:
        return of_session
    if owner is not None:
        return Condition.STARTING
    return Condition.UNOWNED if lease is not None else Condition.LEFT


def _of_session(state: ShardState, generator: CoreState) -> Condition | None:
    """Return what is the matter with a shard's session; None if there is none any more."""
    if state.state == "closed":
        return None
    if not state.connected:
        return Condition.AWAY
    if state.state != "open":
        return Condition.HOLD if state.problem is not None else Condition.OPENING
    if state.waiting:
        return Condition.STORING
    if state.spoke_seconds < generator.silent_after:
        return Condition.READING
    return Condition.STORING if _held_up(state, generator) else Condition.SILENT


def _held_up(state: ShardState, generator: CoreState) -> bool:
    """Whether a processor may be quiet because our own store does not take what it has sent."""
    slow = 2 * state.window_used >= generator.window_bytes
    return state.window_used > 0 and (slow or generator.failing is not None)


def _shards(
    generator: GeneratorState | None, leases: tuple[LeaseState, ...] | None, ours: Callable[[str], bool]
) -> tuple[ShardLive, ...]:
    states = {} if generator is None else {one.shard: one for one in generator.shards}
    held = {one.shard: one for one in leases or ()}
    found = []
    for shard in sorted(states.keys() | held.keys()):
        state, lease = states.get(shard), held.get(shard)
        what = condition(state, lease, ours, generator)
        seconds = state.spoke_seconds if state is not None and what in LOST else None
        owner = None if lease is None else lease.owner
        found.append(ShardLive(shard=shard, owner=owner, condition=what, seconds=seconds))
    return tuple(found)


def _phase(
    generator: GeneratorState | None,
    leases: Sequence[LeaseState] | ReceiverError | None,
    shards: Sequence[ShardLive],
) -> str:
    conditions = {one.condition for one in shards}
    if generator is None:
        return "no generator answers"
    if generator.draining:
        return "draining"
    if not generator.prepared:
        return "the generator waits for store and stream"
    if conditions & ALIVE:
        return "reading" if generator.records_stored else "reading; no record is stored yet"
    if leases is None and conditions & HELD:
        return "the lease table is gone"
    if conditions & LOST:
        return "processors are there, and KCL does not call them"
    if isinstance(leases, ReceiverError):
        return "the lease table can't be read"
    if Condition.HOLD in conditions:
        return "on hold"
    if not leases:
        return "KCL waits 1 to 30 s for another worker to make the leases, then makes them"
    if Condition.STARTING in conditions:
        return "KCL has leases for this host and starts one processor per shard"
    if Condition.UNOWNED in conditions:
        return "KCL has made the leases and assigns them to workers"
    return "every shard has ended, or is with another worker"


def _no_generator(error: ReceiverError) -> Problem:
    return Problem(key="generator", text=str(error).partition("\n")[0], hint=error.hint, exit_code=EXIT_ENVIRONMENT)


def _no_leases(error: ReceiverError) -> Problem:
    return Problem(key="leases", text=str(error).partition("\n")[0], hint=error.hint, exit_code=EXIT_STREAM)


def _no_writers(error: ReceiverError) -> Problem:
    text = f"who writes to the store is not known: {str(error).partition(chr(10))[0]}"
    return Problem(key="writers", text=text, hint=error.hint, exit_code=EXIT_STORE)


def _no_table() -> Problem:
    text = "the lease table is not there, and shards are read: it was deleted; nothing can be checkpointed"
    hint = "stop the receiver and start it again: KCL then makes the table; what is stored is not stored twice"
    return Problem(key="table", text=text, hint=hint, exit_code=EXIT_STREAM)


def _failing(generator: GeneratorState | None) -> list[Problem]:
    if generator is None or generator.failing is None:
        return []
    trouble = generator.failing
    text = f"{trouble.error}: {trouble.message} (failing for {for_people(trouble.seconds)})"
    code = trouble.exit_code or EXIT_AMISS
    return [Problem(key="failing", text=text, hint=trouble.hint, exit_code=code, seconds=trouble.seconds)]


def _stuck(generator: GeneratorState | None, shards: Sequence[ShardLive]) -> list[Problem]:
    """Return that the store accepts nothing and says nothing of it: a disk or a network that hangs raises no error."""
    if generator is None or generator.failing is not None:
        return []
    waiting = {one.shard for one in shards if one.condition is Condition.STORING}
    ages = [one.spoke_seconds for one in generator.shards if one.shard in waiting]
    if not ages or max(ages) < generator.silent_after:
        return []
    longest = for_people(max(ages))
    text = f"the store accepts nothing: {counted(len(ages), 'shard')} waiting for it, the longest for {longest}"
    hint = "see whether its disk or network hangs; nothing is lost, KCL waits"
    return [Problem(key="stuck", text=text, hint=hint, exit_code=EXIT_STORE, seconds=max(ages))]


def _on_hold(generator: GeneratorState | None) -> list[Problem]:
    found = []
    for one in () if generator is None else generator.shards:
        if one.problem is not None:
            said, _, hint = one.problem.partition("\nHint: ")
            text = f"{one.shard} is not read: {said}"
            found.append(Problem(key=f"on hold: {one.shard}", text=text, hint=hint, exit_code=EXIT_AMISS))
    return found


def _silence(live: Live, start_seconds: float, said: str) -> list[Problem]:
    """Return what is not being read, unless that is as it should be."""
    generator = live.generator
    if generator is None or generator.draining or not generator.prepared:
        return []
    limit = generator.silent_after
    lost = [one for one in live.shards if one.condition in LOST and (one.seconds or 0.0) >= limit]
    # Since the last processor left, or since the start if there was none: KCL hands shards out anew all the time.
    gone = {one.shard for one in live.shards if one.condition in GONE}
    left = [one.spoke_seconds for one in generator.shards if one.shard in gone]
    waited = min(left, default=generator.uptime_seconds)
    seconds: float
    if live.reading:
        if not lost:
            return []
        seconds = max(one.seconds or 0.0 for one in lost)
        key = f"{UNREAD}: " + " ".join(one.shard for one in lost)
        text = f"not being read: {_named(lost)}"
    elif lost:
        seconds = min(one.seconds or 0.0 for one in lost)
        key = UNREAD
        text = f"nothing is being read: {_named(lost)}"
    elif waited < start_seconds or live.settled:
        return []
    elif any(one.condition is Condition.AWAY for one in live.shards):
        return []  # for less than the limit: they may come back
    else:
        seconds = waited
        key = UNREAD
        text = f"nothing is being read: KCL has started no processor in {for_people(waited)} ({live.phase})"
    if said:
        text += f"; the daemon's last error: {said}"
    hint = "see docs/operations.md#nothing-is-being-read"
    return [Problem(key=key, text=text, hint=hint, exit_code=EXIT_AMISS, seconds=seconds)]


UNREAD = "unread"
"""How the keys of problems begin that say that something is not being read."""

SHOWN = 4
"""Shards that a sentence names."""


def _named(shards: Sequence[ShardLive]) -> str:
    said = []
    for one in shards[:SHOWN]:
        word = "silent for" if one.condition is Condition.SILENT else "not connected for"
        said.append(f"{one.shard} ({word} {for_people(one.seconds or 0.0)})")
    more = len(shards) - SHOWN
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def counted(count: int, thing: str) -> str:
    """Return a number of things in words: `1 shard`, `2 shards`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def for_people(seconds: float) -> str:
    """Return a time for people: `25 s`, `3 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
