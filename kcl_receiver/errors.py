"""Every error that a user can meet, each with a hint and an exit code.

    ReceiverError
    ├── ConfigError               the properties file, or an option, asks for something that cannot work
    ├── EnvironmentProblem        this machine lacks something: Java, the KCL's jars, a package, a lock held by another
    ├── StoreError
    │   ├── StoreUnavailable      may mend itself: full disk, network, permissions; the same call can be tried again
    │   ├── StoreRefused          the store belongs to another application, or is of a newer format
    │   ├── BlockMissing          a block that the ledger names is not there
    │   ├── BlockDamaged          a block is there and is not what was stored
    │   └── LedgerDamaged         an entry of the ledger is missing or altered
    ├── HoleFound                 a reader came to a place of which nothing is stored
    ├── TokenRefused              a reader's token is not for this store, stream or version
    ├── StreamError
    │   ├── StreamUnavailable     AWS does not answer, or throttles; the same call can be tried again
    │   ├── StreamGone            the stream was deleted
    │   ├── StreamReplaced        a stream of this name exists, and it is another one
    │   ├── LeaseRefused          one shard's lease asks for what cannot be read; the other shards are read
    │   ├── RangeTrimmed          records that no block holds any more, and the stream does not either
    │   └── RangeDiffers          the stream gives something else than what was stored
    ├── WireError
    │   ├── FrameError            bytes on the socket that are not this protocol: malformed, or beyond a bound
    │   ├── VersionMismatch       the other side speaks another version
    │   └── ProtocolError         a message that is well formed and may not come now
    ├── DaemonError               the MultiLangDaemon's line protocol was broken, or it refused a checkpoint for good
    ├── Fenced                    a newer session of the same shard exists on this host
    ├── GeneratorUnavailable      no generator answered within receiver.generatorTimeoutMillis
    └── InternalError             a bug of this program: an exception that nothing in it expects

A message says what happened and to which thing; the hint says what to do next. `mends` tells whether waiting can help.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
"""All is well."""
EXIT_AMISS = 1
"""The command ran and found something wrong: records missing, a gap, a damaged block."""
EXIT_USAGE = 2
"""The command line or the properties file is wrong; nothing was started."""
EXIT_ENVIRONMENT = 3
"""The machine lacks something: Java, jars, a lock that another process holds."""
EXIT_STORE = 4
"""The store, or the ledger in it, cannot be used."""
EXIT_STREAM = 5
"""AWS cannot be reached, or the stream is gone or another one."""
EXIT_PROTOCOL = 6
"""Processor, generator and daemon do not understand each other."""
EXIT_LOST = 7
"""Records are lost: no block holds them, and the stream does not any more."""
EXIT_DIFFERS = 8
"""The stream gives other records than those that were stored; nothing of them was stored."""
EXIT_NOTHING = 9
"""`verify`: nothing is stored yet, so there is nothing to prove; it is neither proven nor amiss."""
EXIT_INTERNAL = 10
"""The program has a bug, and stopped because of it. Nothing is lost: what is not stored will be read again."""
EXIT_INTERRUPTED = 130
"""Stopped by a second SIGINT or SIGTERM before all was stored. Nothing is lost: it will be read again."""


SEE_RECOVER = "`kcl-receiver recover` brings it back from the stream; `kcl-receiver verify` tells what else is missing"
"""Hint for a block that is gone, or is not what was stored."""
SEE_REPAIR = (
    "put the file back from a backup, or let `kcl-receiver repair` put in order what can be; "
    "see docs/format.md#a-damaged-ledger"
)
"""Hint for a ledger that is not as it was written."""
STOPPING = "internal error, stopping (please report this)"
"""What a process says at a bug; the traceback follows in its log, once."""


class ReceiverError(Exception):
    """The root of all errors that this package raises on purpose.

    Args:
        message: What happened, and to which thing.
        hint: What to do next; printed on a line of its own.
    """

    exit_code: ClassVar[int] = EXIT_AMISS
    mends: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        name = type(self).__name__
        return f"{name}: {self.message}\nHint: {self.hint}" if self.hint else f"{name}: {self.message}"


class ConfigError(ReceiverError):
    """The properties file, or an option, asks for something that cannot work."""

    exit_code = EXIT_USAGE


class EnvironmentProblem(ReceiverError):
    """This machine lacks something that is needed to start."""

    exit_code = EXIT_ENVIRONMENT


class StoreError(ReceiverError):
    """Something about the store."""

    exit_code = EXIT_STORE


class StoreUnavailable(StoreError):
    """The store did not do what was asked, and may do it when asked again."""

    mends = True


class StoreRefused(StoreError):
    """The store is not for this application, or not for this version."""


class BlockMissing(StoreError):
    """A block that the ledger names is not in the store."""


class BlockDamaged(StoreError):
    """A block is in the store and is not what was stored."""


class LedgerDamaged(StoreError):
    """An entry of the ledger is missing or altered."""


class WriterFenced(LedgerDamaged):
    """Another writer has closed this writer's ledger: nothing more can be recorded in it."""


class HoleFound(ReceiverError):
    """A reader came to a place where records are missing, or may be, and was not told to go on."""


class TokenRefused(ReceiverError):
    """A reader's token is not for this store, this stream, these shards or this version."""

    exit_code = EXIT_USAGE


class StreamError(ReceiverError):
    """Something about the stream."""

    exit_code = EXIT_STREAM


class StreamUnavailable(StreamError):
    """AWS did not answer, or throttled; the same call can be tried again."""

    mends = True


class StreamGone(StreamError):
    """The stream does not exist any more."""


class StreamReplaced(StreamError):
    """A stream of this name exists, and it is not the one that was read before."""


class LeaseRefused(StreamError):
    """One shard's lease asks for what cannot be read; the other shards are read."""


class RangeTrimmed(StreamError):
    """Records that no block holds any more, and that the stream does not hold any more either."""

    exit_code = EXIT_LOST


class RangeDiffers(StreamError):
    """The stream gives something else than what was stored."""

    exit_code = EXIT_DIFFERS


class WireError(ReceiverError):
    """Processor and generator do not understand each other."""

    exit_code = EXIT_PROTOCOL


class FrameError(WireError):
    """Bytes on the socket that are not this protocol, or that go beyond a bound."""


class VersionMismatch(WireError):
    """The other side speaks another version of the protocol."""


class ProtocolError(WireError):
    """A well-formed message that may not come now, or that contradicts what was said before."""


class DaemonError(ReceiverError):
    """The MultiLangDaemon broke its line protocol, or refused a checkpoint for good."""

    exit_code = EXIT_PROTOCOL


class Fenced(ReceiverError):
    """A newer session of the same shard exists on this host."""

    exit_code = EXIT_PROTOCOL


class GeneratorUnavailable(ReceiverError):
    """No generator answered in time."""

    exit_code = EXIT_ENVIRONMENT
    mends = True


class InternalError(ReceiverError):
    """A bug of this program: an exception that nothing in it expects."""

    exit_code = EXIT_INTERNAL

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """Return the error that ends a process because of an exception; whoever caught that logs its traceback."""
        text = " ".join(str(error).split())
        return cls(
            f"{STOPPING}: {type(error).__name__}" + (f": {text}" if text else ""),
            "send the log with the traceback; nothing is lost, because what is not stored is read again",
        )
