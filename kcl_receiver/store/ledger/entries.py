"""What the ledger records, and the chain of its lines.

Each writer has a ledger of its own. A line is a JSON object with the running `number`, the hash `prev` of the line
before, what is recorded, and last its own `hash`. A line that is missing, torn or altered breaks the chain and is
found; a lost end is found because a ledger that nobody writes any more ends with a line that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, cast

import msgspec

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.horizon import Late, ShardMark
from kcl_receiver.ids import check_block_id, check_writer_id
from kcl_receiver.ranges import After, Forgotten, Position, Range, StreamIdentity
from kcl_receiver.store.json_codec import codec_of, read_json, struct_codec

HASH_BYTES = 16
"""A hash is the first 16 bytes of a SHA-256, written as 32 hexadecimal digits."""

_HASH_MEMBER = b',"hash":"'
_END = b'"}'
_HEAD_BYTES = 100
"""Number, hash of the line before, and type take less."""


def _block_id(text: str) -> str:
    check_block_id(text)  # who looks for the block, or for its writer, must find an id
    return text


BlockId = Annotated[str, _block_id]
WriterId = Annotated[str, check_writer_id]
GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Tail:
    """The last line of a writer's ledger: its number and its hash."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class WriterStarted:
    """A writer began; always its first line.

    Attributes:
        writer: Its id.
        host: Name of the host it runs on.
        pid: Its process id there.
        time: Milliseconds since the epoch.
        version: Version of kcl_receiver.
        tails: In a maintenance ledger, the last line of each other one of that day that none has named yet.
        role: What it is: `generator`, or the maintenance command.
        beside: Ids of the other writers that were living: all others before this one had ended.
    """

    writer: str
    host: str
    pid: int
    time: int
    version: str
    tails: dict[str, Tail] = field(default_factory=dict)
    role: str = GENERATOR
    beside: tuple[WriterId, ...] = ()

    @property
    def oldest_beside(self) -> str:
        """The first writer whose ledger may have grown since this one began."""
        return min((self.writer, *self.beside))


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of the ledgers of other writers before a session began.

    Attributes:
        last: The newest writer in the store's log then. The ledgers of all up to this one, but for the session's own
            and those in `lines`, were closed, and all of them was read.
        lines: By writer, how many lines were read of the ledgers that others were still writing, and of those that
            could not be read.
    """

    last: WriterId
    lines: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A processor began to read a shard.

    Attributes:
        session: Id of the session.
        shard: Shard id.
        after: The checkpoint, or the starting point, that KCL gave it.
        rank: Orders the sessions of a shard on one host; the higher is the newer.
        stream: The stream.
        parents: Ids of the shard's parents, none for a shard that the stream was made with.
        hash_range: First and last hash key, decimal, or None if not known.
        retention_hours: The stream's retention, or 0 if not known.
        time: Milliseconds since the epoch, by the service's clock; by this host's if that is not known.
        begins: Where `after` is AT_TIMESTAMP, that time, milliseconds since the epoch; -1 if not known.
        seen: What was read of other ledgers before. None if no other writer was living since this ledger began.
    """

    session: str
    shard: str
    after: After
    rank: int
    stream: StreamIdentity
    parents: tuple[str, ...]
    hash_range: tuple[str, str] | None
    retention_hours: int
    time: int
    begins: int = -1
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class BlockStored:
    """A block is durable.

    Attributes:
        block: Its id.
        stream: The stream that all its records are of.
        ranges: Its ranges, in the order of its rows.
        rows: Number of its rows.
        size: Its size in bytes.
        time: When it was stored, milliseconds since the epoch; 0 if the entry was made from its footer.
        replaces: Ids of the blocks that it stands in for, which need not be there any more.
    """

    block: BlockId
    stream: StreamIdentity
    ranges: tuple[Range, ...]
    rows: int
    size: int
    time: int
    replaces: tuple[BlockId, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """A shard was read to its end, and the end is confirmed and stored.

    Attributes:
        session: Id of the session.
        shard: Shard id.
        stream: The stream.
        last: Position of the shard's last record; what the session began after if it delivered none.
        time: When the end was reached at the latest, by the service's clock, milliseconds since the epoch; by this
            host's if that is not known.
    """

    session: str
    shard: str
    stream: StreamIdentity
    last: After
    time: int


@dataclass(frozen=True, slots=True)
class MarksTaken:
    """How far shards were read, and the clock by which that is told.

    Attributes:
        stream: The stream.
        time: When, at the latest, by the service's clock; milliseconds since the epoch.
        measured: From when on no answer of the stream confirms the times that were recorded.
        retention_hours: The stream's retention then.
        boot: Id of the boot of the host, which its clock belongs to.
        offset: Milliseconds from that clock, CLOCK_BOOTTIME, to the service's: the least that was used since.
        marks: At most one of each shard.
        late: By how much the times of `sessions` are to be raised that were recorded before.
        sessions: Ids of the sessions that `late` is about; without `late`, in the first lines of a ledger, of those
            that delivered something since `measured`.
        checkpoints: By shard the last checkpoint that KCL has taken from here. Where nobody else can write to the store
            there is nobody to tell it.
        ended: Shards of which KCL has taken from here that they are read to their end.
    """

    stream: StreamIdentity
    time: int
    measured: int
    retention_hours: int
    boot: str
    offset: int
    marks: tuple[ShardMark, ...] = ()
    late: tuple[Late, ...] = ()
    sessions: tuple[str, ...] = ()
    checkpoints: dict[str, Position] = field(default_factory=dict)
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Carried:
    """What a writer repeats of all before it, so that who comes next need not read their ledgers.

    Attributes:
        stream: The stream.
        marks: Marks that count, of shards that were read within the retention; see `kcl_receiver.horizon`.
        newest: No record in the ledgers before this one arrived later, by the service's clock; milliseconds since the
            epoch, -1 if not known.
    """

    stream: StreamIdentity
    marks: tuple[ShardMark, ...] = ()
    newest: int = -1


@dataclass(frozen=True, slots=True)
class Closed:
    """The ledger ends here: always its last line.

    Attributes:
        time: Milliseconds since the epoch.
        by: Id of the writer that ended it: its own, or another one after its writer had ended.
    """

    time: int
    by: str


@dataclass(frozen=True, slots=True)
class Living:
    """A writer whose ledger may grow.

    Attributes:
        host: Name of the host it runs on.
        pid: Its process id there.
        version: Version of kcl_receiver.
        time: When it began, milliseconds since the epoch.
    """

    host: str
    pid: int
    version: str
    time: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """What holds of all writers of a store: an entry of the store's log, see `store.ledger.store_log`.

    Attributes:
        by: Id of the writer that changed something.
        time: When, milliseconds since the epoch.
        living: The writers whose ledgers may grow, by id. Each was here before its first line.
        kept: The closed ledgers in which there is something that a session to come needs, or may need.
        stream: The stream of `forgotten`; None if nothing was read yet.
        forgotten: By shard, what is in other ledgers than these, while the stream can still hold some of it: a session
            that begins before its position is to look there.
        last: Id of the writer that began last.
    """

    by: str = field(default="", compare=False)
    time: int = field(default=0, compare=False)
    living: dict[str, Living] = field(default_factory=dict)
    kept: tuple[WriterId, ...] = ()
    stream: StreamIdentity | None = None
    forgotten: dict[str, Forgotten] = field(default_factory=dict)
    last: str = ""


@dataclass(frozen=True, slots=True)
class Expired:
    """Blocks were removed on purpose.

    Attributes:
        time: When, milliseconds since the epoch.
        before: All their records had arrived before this time, milliseconds since the epoch.
        blocks: Their ids.
    """

    time: int
    before: int
    blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Lines of a ledger are gone or damaged, and that is known and accepted: what could be had of them is elsewhere.

    Attributes:
        time: When, milliseconds since the epoch.
        writer: Whose ledger it is.
        line: Number of the first line that is gone; what names this one or a later one finds nothing.
        reason: What was found, for people.
    """

    time: int
    writer: WriterId
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Voided:
    """What some writers of maintenance have not recorded yet never counts any more: their blocks may be deleted.

    Attributes:
        time: When, milliseconds since the epoch.
        writers: Their ids.
    """

    time: int
    writers: tuple[WriterId, ...]


@dataclass(frozen=True, slots=True)
class Following:
    """A follower is about to read that the store knows by name: who planned a removal without it plans again.

    Attributes:
        time: When, milliseconds since the epoch.
        follower: Its name.
    """

    time: int
    follower: str


Entry = (
    WriterStarted
    | SessionStarted
    | BlockStored
    | ShardEnded
    | MarksTaken
    | Carried
    | Closed
    | Expired
    | Acknowledged
    | Voided
    | Following
    | StoreState
)

ENTRY_TYPES: dict[str, type[Entry]] = {
    "writer": WriterStarted,
    "session": SessionStarted,
    "block": BlockStored,
    "shard_end": ShardEnded,
    "marks": MarksTaken,
    "carried": Carried,
    "closed": Closed,
    "expired": Expired,
    "acknowledged": Acknowledged,
    "voided": Voided,
    "following": Following,
    "state": StoreState,
}


class _Head(msgspec.Struct, kw_only=True):
    """What each line has beside its entry; it is written by `encode_lines`."""

    number: int = 0
    prev: str = ""


_CODECS: dict[type, Any] = {
    entry: struct_codec(entry, bases=(_Head,), tag_field="type", tag=name) for name, entry in ENTRY_TYPES.items()
}
_LOADS: dict[type, Any] = {codec.wire: codec.load for codec in _CODECS.values()}
_DECODER = msgspec.json.Decoder(Union[tuple(_LOADS)])  # noqa: UP007


def decode_entry(line: bytes) -> Entry:
    """Return the entry that a line holds, whether or not it has its place in a chain.

    Raises:
        ValueError: It is none that this version knows.
    """
    raw = read_json(_DECODER, line)
    return cast(Entry, _LOADS[type(raw)](raw))


_STREAMS = msgspec.json.Decoder(
    msgspec.defstruct("StreamOnly", [("type", str), ("stream", codec_of(StreamIdentity).wire | None, None)])
)


def decode_stream(line: bytes) -> Any:  # noqa: ANN401 - a struct that is made at run time
    """Return `type` and `stream` of a ledger's line, or None if it is not just as it should be."""
    try:
        return read_json(_STREAMS, line)
    except ValueError:
        return None


def first_prev(writer: str) -> str:
    """Return what stands in `prev` of a writer's first line: the hash of its id, which ties the file to its name."""
    return _hash(writer.encode())


def encode_lines(entries: Sequence[Entry], number: int, prev: str) -> tuple[bytes, Tail]:
    """Return the lines of some entries, and the tail of the ledger after them.

    Args:
        entries: What is recorded.
        number: Number of the first line.
        prev: Hash of the line before, or `first_prev`.
    """
    lines = bytearray()
    for number_here, entry in enumerate(entries, number):
        said = msgspec.json.encode(_CODECS[type(entry)].dump(entry))[1:-1]
        body = b'{"number":%d,"prev":"%s",%s' % (number_here, prev.encode(), said)
        prev = _hash(body)
        lines += body + _HASH_MEMBER + prev.encode() + _END + b"\n"
    return bytes(lines), Tail(number + len(entries) - 1, prev)


@dataclass(frozen=True, slots=True)
class WriterLedger:
    """One writer's ledger as it was read.

    Attributes:
        writer: Its id.
        entries: All entries before the first fault.
        hashes: The hash of each entry's line, `HASH_BYTES` each.
        torn: Bytes of a torn last line, which is ignored: its write never ended, and nobody was told that it had.
        fault: What is wrong with the first line that is not as it was written, or None.
    """

    writer: str
    entries: list[Entry]
    hashes: bytes
    torn: int
    fault: LedgerDamaged | None

    @property
    def is_closed(self) -> bool:
        """Whether its last line says that no other follows."""
        return bool(self.entries) and isinstance(self.entries[-1], Closed)

    @property
    def tail(self) -> Tail:
        """The last good line; number 0 if there is none."""
        last = self.hashes[-HASH_BYTES:].hex() if self.hashes else first_prev(self.writer)
        return Tail(len(self.entries), last)

    @property
    def named(self) -> dict[str, Tail]:
        """The lines of other writers' ledgers that its writer saw as their last."""
        first = self.entries[0] if self.entries else None
        return first.tails if isinstance(first, WriterStarted) else {}

    def has(self, seen: Tail) -> bool:
        """Return whether it holds a line."""
        return self.hashes[(seen.number - 1) * HASH_BYTES : seen.number * HASH_BYTES].hex() == seen.hash


def decode_ledger(writer: str, content: bytes) -> WriterLedger:
    """Return what one writer's ledger holds, up to the first line that is not as it was written."""
    entries: list[Entry] = []
    hashes = bytearray()
    fault = None
    try:
        for entry, own in _lines(writer, content):
            entries.append(entry)
            hashes += bytes.fromhex(own)
    except LedgerDamaged as error:
        fault = error
    return WriterLedger(writer, entries, bytes(hashes), len(content) - content.rfind(b"\n") - 1, fault)


def iter_entries(writer: str, content: bytes, skip: int = 0) -> Iterator[Entry]:
    """Yield the entries of one writer's ledger, one in memory at a time. A torn last line is left out.

    Args:
        writer: Id of the writer.
        content: Its ledger.
        skip: Number of lines to leave out at the beginning; they were judged before, and are not looked at again.

    Raises:
        LedgerDamaged: A line is not as it was written; all before it were yielded.
    """
    return (entry for entry, _ in _lines(writer, content, skip))


def iter_lines(writer: str, content: bytes) -> Iterator[tuple[Entry, str, bytes]]:
    """Yield the same with the hash of each line, and the line itself.

    Raises:
        LedgerDamaged: See `iter_entries`.
    """
    start = 0
    for entry, own in _lines(writer, content):
        end = content.find(b"\n", start)
        yield entry, own, content[start:end]
        start = end + 1


def decode_more(writer: str, lines: bytes, tail: Tail) -> tuple[list[Entry], Tail, LedgerDamaged | None]:
    """Return what lines hold that follow a ledger's last one that is known, the last one now, and the first fault.

    Args:
        writer: Id of the writer.
        lines: Whole lines; a torn one at the end is left out.
        tail: The last line before them; number 0 and `first_prev` if there is none.
    """
    entries: list[Entry] = []
    try:
        for entry, own in _lines(writer, lines, tail=tail):
            entries.append(entry)
            tail = Tail(tail.number + 1, own)
    except LedgerDamaged as error:
        return entries, tail, error
    return entries, tail, None


def iter_more(writer: str, lines: bytes, tail: Tail, skip: int = 0) -> Iterator[Entry]:
    """Yield the entries of lines that follow a ledger's last one that is known, one in memory at a time.

    Args:
        writer: Id of the writer.
        lines: Whole lines; a torn one at the end is left out.
        tail: The last line before them; number 0 and `first_prev` if there is none.
        skip: Number of the last line to leave out. It was judged before, and is not looked at again; if that is the
            first of these, the hash in `tail` does not matter.

    Raises:
        LedgerDamaged: See `iter_entries`.
    """
    return (entry for entry, _ in _lines(writer, lines, skip, tail))


def tail_after(lines: bytes, tail: Tail) -> Tail:
    """Return the last of lines that follow another one; they are not held against their hashes."""
    end = lines.rfind(b"\n")
    if end < 0:
        return tail
    number = tail.number + lines.count(b"\n")
    return Tail(number, _claimed(lines[lines.rfind(b"\n", 0, end) + 1 : end]))


def ends_closed(content: bytes) -> bool:
    """Return whether the last line of a ledger says that no other follows; it is not held against its hash."""
    end = content.rfind(b"\n")
    start = content.rfind(b"\n", 0, max(end, 0)) + 1
    return b'"type":"closed"' in content[start : min(start + _HEAD_BYTES, max(end, 0))]


def _lines(writer: str, content: bytes, skip: int = 0, tail: Tail | None = None) -> Iterator[tuple[Entry, str]]:
    """Yield each entry and the hash of its line; with `tail`, of lines that follow that one."""
    tail = tail or Tail(0, first_prev(writer))
    number, prev, start, ended = tail.number, tail.hash, 0, False
    while number < skip:
        end = content.find(b"\n", start)
        if end < 0:
            return
        number += 1
        if number == skip:
            prev = _claimed(content[start:end])
        start = end + 1
    while (end := content.find(b"\n", start)) >= 0:
        number += 1
        try:
            if ended:
                raise ValueError("the line before it is the last one")
            prev, entry = decode_line(content[start:end], number, prev)
        except ValueError as error:
            what = f"line {number} of the ledger of writer {writer} is not as it was written: {error}"
            raise LedgerDamaged(what, SEE_REPAIR) from error
        yield entry, prev
        ended = isinstance(entry, Closed)
        start = end + 1


def decode_line(line: bytes, number: int, prev: str | None = None) -> tuple[str, Entry]:
    """Return the hash of a line, and its entry.

    Args:
        line: The line, without its newline.
        number: Its number.
        prev: The hash of the line before; None if that is not known.

    Raises:
        ValueError: It is not as it was written.
    """
    body, found, claimed = line.rpartition(_HASH_MEMBER)
    if not found or not claimed.endswith(_END):
        raise ValueError("it has no hash")
    if (own := _hash(body)) != claimed[: -len(_END)].decode("ascii", "replace"):
        raise ValueError("its hash does not fit its content")
    raw = read_json(_DECODER, line)
    if raw.number != number:
        raise ValueError(f"it says that it is line {raw.number}: lines are missing")
    if prev is not None and raw.prev != prev:
        raise ValueError("it does not follow the line before")
    return own, cast(Entry, _LOADS[type(raw)](raw))


def begun_by(content: bytes) -> str | None:
    """Return the writer whose ledger begins with some bytes; None if its first line is not as it was written."""
    try:
        _, entry = decode_line(content[: content.find(b"\n")], 1)
        return check_writer_id(entry.writer) if isinstance(entry, WriterStarted) else None
    except ValueError:
        return None


def _claimed(line: bytes) -> str:
    """Return the hash that a line names as its own."""
    return line.rpartition(_HASH_MEMBER)[2][: 2 * HASH_BYTES].decode("ascii", "replace")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[: 2 * HASH_BYTES]
