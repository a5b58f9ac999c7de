"""What the ledger records, and the chain of its lines.

Each writer has a ledger of its own. A line is a JSON object with the running number `n`, the hash `prev` of the line
before, what is recorded, and last its own `hash`. A line that is missing, torn or altered breaks the chain and is
found; a lost end is found because each later writer names the last line that it saw of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.horizon import Late, ShardMark
from kcl_receiver.ranges import After, Forgotten, Range, StreamIdentity, parse_after, parse_position
from kcl_receiver.store.names import block_path, check_writer_id
from kcl_receiver.store.typed import BlockLine, decode_block_line, range_of

HASH_BYTES = 16
"""A hash is the first 16 bytes of a SHA-256, written as 32 hexadecimal digits."""

_HASH_MEMBER = b',"hash":"'
_END = b'"}'


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
        tails: The last line seen of each other writer, unless an earlier writer has named the same.
        role: What it is: `generator`, or the maintenance command.
    """

    writer: str
    host: str
    pid: int
    time: int
    version: str
    tails: dict[str, Tail] = field(default_factory=dict)
    role: str = GENERATOR

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        out: dict[str, Any] = {
            "type": "writer",
            "writer": self.writer,
            "host": self.host,
            "pid": self.pid,
            "time": self.time,
            "version": self.version,
            "tails": {writer: {"n": tail.number, "hash": tail.hash} for writer, tail in self.tails.items()},
        }
        if self.role != GENERATOR:
            out["role"] = self.role
        return out

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> WriterStarted:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        tails = {str(writer): Tail(int(tail["n"]), str(tail["hash"])) for writer, tail in raw["tails"].items()}
        writer, host, version = (_text(raw[name]) for name in ("writer", "host", "version"))
        return cls(writer, host, int(raw["pid"]), int(raw["time"]), version, tails, _text(raw.get("role", GENERATOR)))


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

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        return {
            "type": "session",
            "session": self.session,
            "shard": self.shard,
            "after": str(self.after),
            "rank": self.rank,
            "stream": _stream_to_json(self.stream),
            "parents": list(self.parents),
            "hash_range": None if self.hash_range is None else list(self.hash_range),
            "retention_hours": self.retention_hours,
            "time": self.time,
            "begins": self.begins,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> SessionStarted:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        hash_range = raw["hash_range"]
        return cls(
            session=_text(raw["session"]),
            shard=_text(raw["shard"]),
            after=parse_after(raw["after"]),
            rank=int(raw["rank"]),
            stream=_stream_from_json(raw["stream"]),
            parents=tuple(map(_text, raw["parents"])),
            hash_range=None if hash_range is None else (_text(hash_range[0]), _text(hash_range[1])),
            retention_hours=int(raw["retention_hours"]),
            time=int(raw["time"]),
            begins=int(raw["begins"]),
        )


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

    block: str
    stream: StreamIdentity
    ranges: tuple[Range, ...]
    rows: int
    size: int
    time: int
    replaces: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        out: dict[str, Any] = {
            "type": "block",
            "block": self.block,
            "stream": _stream_to_json(self.stream),
            "ranges": [one.to_json() for one in self.ranges],
            "rows": self.rows,
            "size": self.size,
            "time": self.time,
        }
        if self.replaces:
            out["replaces"] = list(self.replaces)
        return out

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> BlockStored:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        return cls(
            block=_block_id(raw["block"]),
            stream=_stream_from_json(raw["stream"]),
            ranges=tuple(map(Range.from_json, raw["ranges"])),
            rows=int(raw["rows"]),
            size=int(raw["size"]),
            time=int(raw["time"]),
            replaces=tuple(map(_block_id, raw.get("replaces", ()))),
        )


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

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        return {
            "type": "shard_end",
            "session": self.session,
            "shard": self.shard,
            "stream": _stream_to_json(self.stream),
            "last": str(self.last),
            "time": self.time,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ShardEnded:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        return cls(
            _text(raw["session"]),
            _text(raw["shard"]),
            _stream_from_json(raw["stream"]),
            parse_after(raw["last"]),
            int(raw["time"]),
        )


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

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        out: dict[str, Any] = {
            "type": "marks",
            "stream": _stream_to_json(self.stream),
            "time": self.time,
            "measured": self.measured,
            "retention_hours": self.retention_hours,
            "boot": self.boot,
            "offset": self.offset,
            "marks": list(map(_mark_to_json, self.marks)),
        }
        if self.late:
            out["late"] = [one._asdict() for one in self.late]
        if self.sessions:
            out["sessions"] = list(self.sessions)
        return out

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> MarksTaken:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        return cls(
            stream=_stream_from_json(raw["stream"]),
            time=int(raw["time"]),
            measured=int(raw["measured"]),
            retention_hours=int(raw["retention_hours"]),
            boot=_text(raw["boot"]),
            offset=int(raw["offset"]),
            marks=tuple(map(_mark_from_json, raw["marks"])),
            late=tuple(Late(int(one["since"]), int(one["until"]), int(one["by"])) for one in raw.get("late", ())),
            sessions=tuple(map(_text, raw.get("sessions", ()))),
        )


@dataclass(frozen=True, slots=True)
class Carried:
    """What a writer carries over from all before it, so that who comes next need not read all of the ledger.

    Attributes:
        stream: The stream.
        ranges: Each shard's ranges that reach to its last checkpoint or past it and that the stream can still hold, and
            its last one, each with the id of its block. None of a shard that KCL knows to be read to its end.
        forgotten: By shard, what is left out of that, while the stream can still hold some of it.
        marks: Marks that count, of shards that were read within the retention; see `kcl_receiver.horizon`.
        newest: No record in the ledgers before this one arrived later, by the service's clock; milliseconds since the
            epoch, -1 if not known.
    """

    stream: StreamIdentity
    ranges: tuple[tuple[Range, str], ...]
    forgotten: dict[str, Forgotten]
    marks: tuple[ShardMark, ...] = ()
    newest: int = -1

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        return {
            "type": "carried",
            "stream": _stream_to_json(self.stream),
            "ranges": [{"block": block, **one.to_json()} for one, block in self.ranges],
            "forgotten": {
                shard: {"through": str(one.through), "newest": one.newest} for shard, one in self.forgotten.items()
            },
            "marks": list(map(_mark_to_json, self.marks)),
            "newest": self.newest,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Carried:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        return cls(
            _stream_from_json(raw["stream"]),
            tuple((Range.from_json(one), _block_id(one["block"])) for one in raw["ranges"]),
            {
                str(shard): Forgotten(parse_position(one["through"]), int(one["newest"]))
                for shard, one in raw["forgotten"].items()
            },
            tuple(map(_mark_from_json, raw["marks"])),
            int(raw["newest"]),
        )


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
    blocks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        return {"type": "expired", "time": self.time, "before": self.before, "blocks": list(self.blocks)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Expired:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        return cls(int(raw["time"]), int(raw["before"]), tuple(map(_block_id, raw["blocks"])))


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
    writer: str
    line: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the members that the line holds; `from_json` reads them back."""
        return {
            "type": "acknowledged",
            "time": self.time,
            "writer": self.writer,
            "line": self.line,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Acknowledged:
        """Return the entry that `to_json` wrote; see `entry_from_json`."""
        writer = _text(raw["writer"])
        return cls(int(raw["time"]), check_writer_id(writer), int(raw["line"]), _text(raw["reason"]))


Entry = WriterStarted | SessionStarted | BlockStored | ShardEnded | MarksTaken | Carried | Expired | Acknowledged

ENTRY_TYPES: dict[str, Callable[[dict[str, Any]], Entry]] = {
    "writer": WriterStarted.from_json,
    "session": SessionStarted.from_json,
    "block": BlockStored.from_json,
    "shard_end": ShardEnded.from_json,
    "marks": MarksTaken.from_json,
    "carried": Carried.from_json,
    "expired": Expired.from_json,
    "acknowledged": Acknowledged.from_json,
}


def entry_from_json(raw: dict[str, Any]) -> Entry:
    """Return the entry that a line holds.

    Raises:
        ValueError: It is none that this version knows.
    """
    try:
        return ENTRY_TYPES[raw["type"]](raw)
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an entry: {error!r}") from error


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
        members = {"n": number_here, "prev": prev, **entry.to_json()}
        body = json.dumps(members, separators=(",", ":")).encode()[:-1]
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
    def tail(self) -> Tail:
        """The last good line; number 0 if there is none."""
        last = self.hashes[-HASH_BYTES:].hex() if self.hashes else first_prev(self.writer)
        return Tail(len(self.entries), last)


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


def _lines(writer: str, content: bytes, skip: int = 0) -> Iterator[tuple[Entry, str]]:
    """Yield each entry and the hash of its line."""
    prev = first_prev(writer)
    number, start = 0, 0
    while number < skip:
        end = content.find(b"\n", start)
        if end < 0:
            return
        number += 1
        if number == skip:
            prev = content[start:end].rpartition(_HASH_MEMBER)[2][: 2 * HASH_BYTES].decode("ascii", "replace")
        start = end + 1
    while (end := content.find(b"\n", start)) >= 0:
        number += 1
        try:
            prev, entry = _decode_line(content[start:end], number, prev)
        except (ValueError, RecursionError, msgspec.DecodeError) as error:  # the last is a ValueError in newer versions
            raise LedgerDamaged(
                f"line {number} of the ledger of writer {writer} is not as it was written: {error}",
                SEE_REPAIR,
            ) from error
        yield entry, prev
        start = end + 1


def _decode_line(line: bytes, number: int, prev: str) -> tuple[str, Entry]:
    body, found, claimed = line.rpartition(_HASH_MEMBER)
    if not found or not claimed.endswith(_END):
        raise ValueError("it has no hash")
    if (own := _hash(body)) != claimed[: -len(_END)].decode("ascii", "replace"):
        raise ValueError("its hash does not fit its content")
    typed = decode_block_line(line)
    raw = msgspec.json.decode(line) if typed is None else {"n": typed.n, "prev": typed.prev}
    if raw.get("n") != number:
        raise ValueError(f"it says that it is line {raw.get('n')}: lines are missing")
    if raw.get("prev") != prev:
        raise ValueError("it does not follow the line before")
    return own, entry_from_json(raw) if typed is None else _block_stored(typed)


def _block_stored(line: BlockLine) -> BlockStored:
    stream = StreamIdentity(line.stream.arn, line.stream.created)
    replaces = tuple(map(_block_id, line.replaces))
    ranges = tuple(map(range_of, line.ranges))
    return BlockStored(_block_id(line.block), stream, ranges, line.rows, line.size, line.time, replaces)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[: 2 * HASH_BYTES]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {type(value).__name__}")
    return value


def _block_id(value: object) -> str:
    block = _text(value)
    block_path(block)  # who looks for the block, or for its writer, must find an id
    return block


def _mark_to_json(mark: ShardMark) -> dict[str, Any]:
    return {
        "shard": mark.shard,
        "session": mark.session,
        "position": str(mark.position),
        "until": mark.until,
        "opened": mark.opened,
    }


def _mark_from_json(raw: dict[str, Any]) -> ShardMark:
    shard, session, position = (_text(raw[name]) for name in ("shard", "session", "position"))
    return ShardMark(shard, session, parse_after(position), int(raw["until"]), int(raw["opened"]))


def _stream_to_json(stream: StreamIdentity) -> dict[str, Any]:
    return {"arn": stream.arn, "created": stream.created}


def _stream_from_json(raw: dict[str, Any]) -> StreamIdentity:
    return StreamIdentity(str(raw["arn"]), int(raw["created"]))
