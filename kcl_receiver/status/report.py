"""What generator and lease table report of themselves: the two halves of which `live` makes the live state.

Pure. Every time is an age in seconds, told by whoever took it.
"""

from __future__ import annotations

import msgspec

from kcl_receiver.errors import ReceiverError

SILENT_SECONDS = 30.0
"""A processor that was not called for so long is silent. KCL calls one every `idleTimeBetweenReadsInMillis` (1.5 s), or
with every event of enhanced fan-out (about 5 s), and retries a failed read within seconds."""


def silent_after(idle_millis: int) -> float:
    """Return the seconds after which a processor is silent, given `idleTimeBetweenReadsInMillis`."""
    return SILENT_SECONDS + 2 * idle_millis / 1000


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """An error that is being retried.

    Attributes:
        error: Name of its class in `kcl_receiver.errors`.
        message: What happened, and to which thing.
        hint: What to do next.
        exit_code: That of the error.
        seconds: For how long it has been failing.
    """

    error: str
    message: str
    hint: str
    exit_code: int
    seconds: float

    @classmethod
    def of(cls, error: ReceiverError, seconds: float) -> Trouble:
        """Return an error as what is reported of it."""
        return cls(
            error=type(error).__name__,
            message=error.message,
            hint=error.hint,
            exit_code=error.exit_code,
            seconds=round(max(0.0, seconds), 3),
        )


class UnreadState(msgspec.Struct, frozen=True, kw_only=True):
    """A place at which records may have been trimmed before they were read.

    Attributes:
        after: The last position before it.
        arrived_from: When these records had arrived, milliseconds since the epoch; -1 if that is not known.
        arrived_to: Until when.
    """

    after: str
    arrived_from: int
    arrived_to: int


class ShardState(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator knows of a shard: its youngest session.

    Attributes:
        shard: Shard id.
        session: The session's id.
        state: `waiting`, `looking`, `recording`, `open`, `on hold` or `closed`; see `generator.session`.
        problem: Why it is on hold, None if it is not.
        pid: Its processor's process id.
        connected: Whether that processor is connected now.
        spoke_seconds: Since when it has said nothing.
        records: Records stored in this session.
        delivered: Last position received, None before the first batch.
        stored_through: Position through which everything is stored.
        checkpoint: Last one that KCL took, as the processor says.
        behind_millis: KCL's millisBehindLatest, -1 if not known.
        behind_seconds: The age of `behind_millis`, None if that is not known.
        window_used: Bytes admitted and not stored.
        waiting: A batch waits for the window.
        shard_end: The shard's end is confirmed and recorded.
        read_until: All that had arrived by then was read; milliseconds since the epoch, by the service's clock. -1 if
            that is not known yet.
        possibly_trimmed: Where records may have been trimmed before they were read, the last place; None if nowhere.
        possibly_trimmed_links: Number of such places in this session.
    """

    shard: str
    session: str
    state: str
    problem: str | None
    pid: int
    connected: bool
    spoke_seconds: float
    records: int
    delivered: str | None
    stored_through: str | None
    checkpoint: str | None
    behind_millis: int
    behind_seconds: float | None
    window_used: int
    waiting: bool
    shard_end: bool
    read_until: int
    possibly_trimmed: UnreadState | None
    possibly_trimmed_links: int = 0


class CoreState(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator's state machine knows; sizes are bytes, times seconds.

    Attributes:
        application: The application's name.
        writer: The generator's writer id.
        draining: It is about to stop.
        failing: What is being retried now.
        silent_after: Seconds after which a processor that says nothing is called silent.
        blocks_stored: Blocks since this generator's start.
        records_stored: Records in them.
        bytes_stored: Their size on disk.
        records_skipped: Delivered again and not stored again.
        blocks_in_flight: Cut and not stored yet.
        building_bytes: In the block that is being filled.
        building_seconds: For how long it has been filled.
        window_bytes: receiver.windowBytes.
        shards: The youngest session of each shard that this generator has seen.
    """

    application: str
    writer: str
    draining: bool
    failing: Trouble | None
    silent_after: float
    blocks_stored: int
    records_stored: int
    bytes_stored: int
    records_skipped: int
    blocks_in_flight: int
    building_bytes: int
    building_seconds: float
    window_bytes: int
    shards: tuple[ShardState, ...]


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Which stream is read: its ARN, and when it was made, in milliseconds since the epoch."""

    arn: str
    created: int


class GeneratorState(CoreState, frozen=True, kw_only=True):
    """What a generator reports of itself: the state machine's part, and the process.

    Attributes:
        store: URL of the block store.
        socket: Where it listens.
        version: Of this package.
        pid: Its process id.
        uptime_seconds: Since its start.
        prepared: Store, ledger and stream are ready; no session opens before.
        ranges_in_memory: Ranges kept for the start of sessions.
        stream: None until it was found.
    """

    store: str
    socket: str
    version: str
    pid: int
    uptime_seconds: float
    prepared: bool
    ranges_in_memory: int
    stream: StreamState | None


class WriterState(msgspec.Struct, frozen=True, kw_only=True):
    """A generator that writes to the store, of this host or another, as the store shows it.

    Attributes:
        writer: Its writer id.
        host: The name of its host.
        pid: Its process id there.
        version: Of this package, there.
        began_seconds: Since its ledger began, by the clocks of both hosts.
        recorded_seconds: Since its ledger grew; None if it has none yet.
        shards: The shards whose leases its host's worker holds; none if the leases are not known.
    """

    writer: str
    host: str
    pid: int
    version: str
    began_seconds: float
    recorded_seconds: float | None
    shards: tuple[str, ...]


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """A row of KCL's lease table; `checkpoint` is a sequence number or one of KCL's words."""

    shard: str
    checkpoint: str
    sub_sequence_number: int
    owner: str | None
    counter: int

    @property
    def ended(self) -> bool:
        """Whether the shard was read to its end."""
        return self.checkpoint == "SHARD_END"
