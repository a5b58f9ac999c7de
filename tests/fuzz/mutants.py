"""The fuzzer is itself tested: deliberate bugs in kcl_receiver's own code, each of which some input must find.

They are put in at run time, as those of the simulation are. `scripts/fuzz --mutants` prints the table.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from simulation.mutants import Edit, Mutant

from kcl_receiver.generator import client
from kcl_receiver.generator.connection import Connection
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.session_registry import SessionRegistry
from kcl_receiver.generator.stored_spans import StoredSpans
from kcl_receiver.processor import codec, runtime
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.lines import LineReader
from kcl_receiver.processor.link import GeneratorLink
from kcl_receiver.store.blocks.checksums import RowChecksums
from kcl_receiver.store.ledger import entries
from kcl_receiver.wire import frames
from kcl_receiver.wire.frames import FrameReader

INPUTS = 40_000
"""A bug that so many inputs do not find is a hole; `files` and `generator` find theirs within a tenth of it."""


def _bug(target: str, name: str, *edits: tuple[Any, str, str, str]) -> tuple[str, Mutant]:
    return target, Mutant(name, tuple(Edit(*edit) for edit in edits))


MUTANTS = (
    _bug(
        "frames",
        "the length of a payload is believed, whatever it is",
        (frames, "_check_lengths", "if payload > bound:", "if False:"),
    ),
    _bug(
        "frames",
        "the length of a message is believed, whatever it is",
        (frames, "_check_lengths", "if message > MAX_MESSAGE:", "if False:"),
    ),
    _bug(
        "frames",
        "a message that cannot be decoded raises what msgspec raises",
        (
            FrameReader,
            "_finish",
            "except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error",
            "except KeyboardInterrupt as error",
        ),
    ),
    _bug("frames", "a reader keeps the last frame's body", (FrameReader, "_finish", "self._body = None", "pass")),
    _bug(
        "frames",
        "an unknown code is looked up",
        (FrameReader, "_begin_body", "if code not in _TYPES:", "if False:"),
    ),
    _bug(
        "frames",
        "the lengths of columns are not held against their count",
        (frames, "decode_batch", "message.lengths[:5] != fixed or", ""),
    ),
    _bug(
        "frames",
        "a column's length may be negative",
        (frames, "decode_batch", "if message.lengths[:5] != fixed or min(message.lengths) < 0 or", "if"),
    ),
    _bug(
        "frames",
        "a position that is none raises ValueError",
        (frames, "decode_batch", "except ValueError as error", "except KeyError as error"),
    ),
    _bug(
        "frames", "a batch's ends are not its columns'", (frames, "decode_batch", "if ends != (first, last):", "if 0:")
    ),
    _bug("frames", "a batch may hold no records", (frames, "decode_batch", "if count < 1:", "if False:")),
    _bug(
        "generator",
        "columns are not checked when they come, but when they are stored",
        (GeneratorServer, "_dispatch", "_checked(decode_batch(frame))", "decode_batch(frame)"),
    ),
    _bug(
        "generator",
        "payloads are taken from whoever connects",
        (Connection, "__init__", "FrameReader(NO_PAYLOADS, uncleared)", "FrameReader(allocate=uncleared)"),
    ),
    _bug(
        "generator",
        "a peer that does not take its answers is read from",
        (Connection, "pause_writing", "self._transport.pause_reading()", "pass"),
    ),
    _bug(
        "generator",
        "an error of the protocol ends the event loop's callback",
        (GeneratorServer, "received", "except ReceiverError as error", "except KeyboardInterrupt as error"),
    ),
    _bug(
        "generator",
        "an error of the framing ends the event loop's callback",
        (Connection, "buffer_updated", "except WireError as error", "except KeyboardInterrupt as error"),
    ),
    _bug(
        "generator",
        "who is refused is not hung up on",
        (SessionRegistry, "refuse", "*self.hang_up(connection)", ""),
    ),
    _bug(
        "generator",
        "a batch's number is not checked",
        (Session, "check_next", "if number != expected:", "if False:"),
        (GeneratorCore, "batch", "if batch.message.number < session.tracker.next_number:", "if False:"),
    ),
    _bug(
        "generator",
        "a hostile session's batch counts against every shard's window",
        (
            GeneratorCore,
            "_admit_pending",
            "taken = session.tracker.unstored_bytes",
            "taken = 10**9 if len(self._roster.sessions) > 1 else 0",
        ),
    ),
    _bug(
        "generator",
        "a shard's younger session takes all shards",
        (
            SessionRegistry,
            "join",
            "older = self.current.get(session.shard)",
            "older = next(iter(self.current.values()), None)",
        ),
    ),
    _bug(
        "generator",
        "a loop over what is held does not end",
        (StoredSpans, "missing", "row = stop", "row = row"),
    ),
    _bug(
        "link",
        "a generator may make a processor take memory for a payload",
        (GeneratorLink, "__init__", "FrameReader(NO_PAYLOADS)", "FrameReader()"),
    ),
    _bug(
        "link",
        "a wait beyond what poll takes",
        (runtime, "poll_millis", "min(max(0.0, seconds * 1000), MAX_POLL_MILLIS)", "max(0.0, seconds * 1000)"),
    ),
    _bug(
        "link",
        "a message for somebody else raises KeyError",
        (
            ProcessorCore,
            "_hear",
            'raise ProtocolError(f"the generator sent {type(message).__name__}, which is not for a processor")',
            "raise KeyError",
        ),
    ),
    _bug(
        "link",
        "an error of the framing is no reason to leave",
        (Driver, "_listen", "self.exit = Exit(error)", "raise ValueError from error"),
    ),
    _bug(
        "daemon",
        "lines within lines raise what msgspec raises",
        (
            codec,
            "decode_line",
            "except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error",
            "except (msgspec.DecodeError, UnicodeDecodeError) as error",
        ),
    ),
    _bug(
        "daemon",
        "a line that is none is taken for a lost lease",
        (codec, "decode_line", "begin = bytes(line[:80])", "return LeaseLost()"),
    ),
    _bug(
        "daemon",
        "an error in a record's values is a ValueError",
        (codec, "decode_line", "except (ValueError, OverflowError) as error", "except KeyError as error"),
    ),
    _bug(
        "daemon",
        "a line may be of any length",
        (LineReader, "advance", "if self._filled - self._start > MAX_LINE_BYTES:", "if False:"),
    ),
    _bug(
        "daemon",
        "an action that comes too early is reported done at once",
        (
            ProcessorCore,
            "action",
            "if self._action is not None:",
            "if self._action is not None and not isinstance(action, ProcessRecords):\n"
            "        return [Done(action), Done(self._action)]\n    if self._action is not None:",
        ),
    ),
    _bug(
        "files",
        "a ledger's line is believed without its hash",
        (
            entries,
            "decode_line",
            'raise ValueError("its hash does not fit its content")',
            'own = claimed[: -len(_END)].decode("ascii", "replace")',
        ),
    ),
    _bug(
        "files",
        "an entry may be of any form",
        (
            entries,
            "decode_line",
            "raw = read_json(_DECODER, line)",
            "try:\n        raw = read_json(_DECODER, line)\n    except ValueError as error:\n        "
            "raise TypeError from error",
        ),
    ),
    _bug(
        "files",
        "rows are believed without their checksum",
        (RowChecksums, "fault", "if self.of(begin, one.count) != one.checksum:", "if False:"),
    ),
    _bug(
        "status",
        "an answer that is not JSON raises what json raises",
        (
            client,
            "ask_status",
            "except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error",
            "except KeyError as error",
        ),
    ),
)


def named(name: str) -> Mutant:
    """Return the bug of this name."""
    return next(mutant for _, mutant in MUTANTS if mutant.name == name)


def show(work: Path, jobs: int, only: str, *, plain: bool) -> int:
    """Put in each bug in turn, and print what found it."""
    from fuzz.runner import Outcome, fuzz, say

    chosen = [(target, mutant.name) for target, mutant in MUTANTS if only in mutant.name]

    def one(number: int) -> Outcome:
        target, name = chosen[number]
        runs = INPUTS if target not in ("files", "generator") else INPUTS // 10
        return fuzz(target, runs, 1, work / f"mutant-{number}", plain=plain, mutant=name)

    say(f"{'bug':66} {'target':10} {'inputs':>7}  found by")
    missed = []
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        for (target, name), outcome in zip(chosen, pool.map(one, range(len(chosen))), strict=True):
            found = outcome.failure if outcome.saved is not None else ""
            say(f"{name:66} {target:10} {outcome.counts['inputs']:>7}  {found[:120] or 'NOT FOUND'}")
            if not found:
                missed.append(name)
    say(f"\n{len(chosen) - len(missed)} of {len(chosen)} found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0
