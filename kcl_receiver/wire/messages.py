"""The messages between processor and generator: what each one means, and its number on the wire.

    processor → generator                      generator → processor
    ---------------------                      ---------------------
    Hello        opens a session, or resumes   Welcome            the session is open; the settings in force
    Batch        records, in order, numbered   Admitted           the batch has its place in the window
    Flush        cut the block now             Stored             everything up to this batch is stored
    Progress     lag and checkpoint            Draining           nothing more is admitted; keep what is unsent
    ShardEnd     may SHARD_END be written?     ShardEndConfirmed  it may
    Leave        the lease is lost             Hold               this shard's lease can't be read: keep still
                                               Refused            an error, after which the generator hangs up
    StatusRequest                              Status             the generator's live state, JSON in the payload

Positions travel as text (`sequence:sub`), because MessagePack has no integers of 129 digits. A message carries no
payload, except `Batch` (the columns) and `Status`. docs/protocol.md is the specification.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

PROTOCOL_VERSION = 1
"""Stands in every frame. Raised with every change that an older side would misread."""


Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What every language has. MessagePack's own integers go up to 2^64 - 1."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""Of a batch. No session comes near the bound, and what is counted on from there can still be sent."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The root of all messages."""


class Hello(Message, frozen=True):
    """First message of a processor.

    Attributes:
        application: The application's name; a generator serves one application.
        shard: Shard id.
        session: Id of this processor's hold on the shard, new at every `initialize`.
        rank: CLOCK_BOOTTIME at `initialize`, in nanoseconds; kept over reconnects, so that the younger session wins.
        pid: The processor's process id, checked against the socket's peer.
        after: Where this session's reading began: a position or a starting point.
        next_number: Number of the first batch that will be sent on this connection.
    """

    application: str
    shard: str
    session: str
    rank: Long
    pid: Long
    after: str
    next_number: Number


class Batch(Message, frozen=True):
    """Records of one shard, in the order of the stream; the columns are the frame's payload.

    Attributes:
        number: Counts from 1 within the session, without gaps.
        after: The position or starting point that the first record follows, as delivered.
        first: Position of the first record.
        last: Position of the last record.
        whole: Last position in the batch that ends its Kinesis record, or None.
        count: Number of records.
        arrival_first: Arrival time of the first record in milliseconds since the epoch, -1 if unknown.
        arrival_last: The same of the last one.
        behind: millisBehindLatest of the delivery, -1 if unknown.
        at: CLOCK_BOOTTIME when the daemon delivered it, in milliseconds.
        checksum: `kcl_receiver.wire.columns.checksum` of the columns.
        lengths: Bytes of each of the eight buffers, in the order of `Columns.buffers`.
    """

    number: Number
    after: str
    first: str
    last: str
    whole: str | None
    count: Long
    arrival_first: Long
    arrival_last: Long
    behind: Long
    at: Number
    checksum: str
    lengths: tuple[Long, Long, Long, Long, Long, Long, Long, Long]


class Flush(Message, frozen=True):
    """Cut and store what this session has in the block being built, without waiting for the interval."""


class Progress(Message, frozen=True):
    """How far the processor is: for `status`, for what the generator need not keep in memory, and for its marks.

    Attributes:
        behind: millisBehindLatest of the last delivery, -1 if unknown.
        checkpoint: The last one that KCL has taken, a position or SHARD_END, or None.
        through: The last position that the daemon delivered, or where reading began; None if `noted` says nothing.
        noted: CLOCK_BOOTTIME in milliseconds: the last delivery was read from the stream after that. 0 with None.
    """

    behind: Long
    checkpoint: str | None
    through: str | None = None
    noted: Number = 0


class ShardEnd(Message, frozen=True):
    """KCL reported the end of the shard after `last`, all of which is stored: is it really the shard's end?"""

    last: str


class Leave(Message, frozen=True):
    """The lease is lost: drop what is not cut yet."""


class StatusRequest(Message, frozen=True):
    """Asks for the live state; may be sent without Hello."""


class Welcome(Message, frozen=True):
    """The session is open; batches may be sent, beginning with `next_number`.

    Attributes:
        generator: The generator's writer id.
        next_number: The first batch that this generator has not got yet.
        batch_bytes: A batch whose columns hold more is to be split (a single record may be larger).
        window_bytes: Bytes of the shard that may be admitted and not stored.
        checkpoint_interval_millis: Least time between two checkpoints.
        generator_timeout_millis: How long to go on without a generator.
        store_timeout_millis: How long to wait without any progress of the store.
        drain_millis: How long shutdown_requested may take.
        note_millis: Least time between two times that `Progress.noted` can name.
    """

    generator: str
    next_number: Number
    batch_bytes: Long
    window_bytes: Long
    checkpoint_interval_millis: Long
    generator_timeout_millis: Long
    store_timeout_millis: Long
    drain_millis: Long
    note_millis: Long


class Admitted(Message, frozen=True):
    """The batch has its place in the window; the processor may report its records as processed."""

    number: Number


class Stored(Message, frozen=True):
    """Every batch up to `number` is stored, block and ledger entry."""

    number: Number


class Draining(Message, frozen=True):
    """The generator is about to stop: nothing more is admitted, what was admitted is being stored."""


class ShardEndConfirmed(Message, frozen=True):
    """The shard is closed in the stream that this session read, and the ledger says so."""


class Hold(Message, frozen=True):
    """This shard's lease asks for what cannot be read; the generator stays connected, and the other shards are read.

    The processor takes nothing in, checkpoints nothing and stays: were it to exit, it would take all shards of its
    daemon with it, again and again. `error` is the name of a class in `kcl_receiver.errors`.
    """

    error: str
    message: str
    hint: str


class Refused(Message, frozen=True):
    """The generator hangs up, for this reason. `error` is the name of a class in `kcl_receiver.errors`."""

    error: str
    message: str
    hint: str


class Status(Message, frozen=True):
    """The live state, as JSON in the payload."""

    kind: Literal["json"] = "json"


CODES: dict[type[Message], int] = {
    Hello: 1,
    Batch: 2,
    Flush: 3,
    Progress: 4,
    ShardEnd: 5,
    Leave: 6,
    StatusRequest: 7,
    Welcome: 65,
    Admitted: 66,
    Stored: 67,
    Draining: 68,
    ShardEndConfirmed: 69,
    Refused: 70,
    Status: 71,
    Hold: 72,
}
