"""The simulation is itself tested: deliberate bugs in kcl_receiver's own code, each of which some seed must catch.

A bug is one function of the package with some text of its source replaced, compiled anew and put in its place for the
run. A bug that no seed catches is a hole in the simulation. `scripts/mutants` prints the table.

Some bugs need a rare seed. `caught.json` notes for each bug the seed that caught it last, which is tried first; when it
does so no more, the seeds are searched from the first on.
"""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kcl_receiver.daemon import start
from kcl_receiver.generator import carried, presence
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.pipeline import Pipeline
from kcl_receiver.generator.range_cache import RangeCache
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.session_registry import SessionRegistry
from kcl_receiver.generator.stored_spans import StoredSpans
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.horizon import Horizon
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.retired_blocks import Leftovers
from kcl_receiver.processor import codec
from kcl_receiver.processor.checkpoints import Checkpoints
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.outbox import Outbox
from kcl_receiver.store.bucket import BucketObjects
from kcl_receiver.store.ledger import store_log
from kcl_receiver.store.ledger import takeover as handover
from kcl_receiver.store.ledger.neighbours import Neighbours
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.tailing import LedgerWalk
from kcl_receiver.store.ledger.transaction import Transaction
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.local import Directory
from kcl_receiver.wire.columns import Columns
from simulation.fleet import Fleet, installed

MAX_SEEDS = 1000
"""A bug that this many seeds do not catch is a hole."""
STEPS = 400_000
"""A bug that spins is stopped after so many steps, which no seed needs without one."""
NOTED = Path(__file__).with_name("caught.json")


@dataclass(frozen=True)
class Edit:
    """One function, and what of its source becomes what."""

    owner: Any
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A bug."""

    name: str
    edits: tuple[Edit, ...]
    shared: bool = False
    """Looked for where all hosts of a seed store in one bucket."""


def _shared_bug(name: str, *edits: tuple[Any, str, str, str]) -> Mutant:
    return Mutant(name, tuple(Edit(*edit) for edit in edits), shared=True)


def _bug(name: str, *edits: tuple[Any, str, str, str]) -> Mutant:
    return Mutant(name, tuple(Edit(*edit) for edit in edits))


_NAME = "self._making_durable(path)"


def _unless(condition: str) -> str:
    return f"(suppress() if {condition} else {_NAME})"


_CLOSING_DONE = "self._next, self._first, self._ended, self._closing = ledger, None, None, [], []"
_BLOCK_IS_WRITTEN = "'.parquet' in name or self._files.fsync(handle)"
_FSYNC = "self._files.fsync(self._files.open(path))"

MUTANTS = (
    # Ledgers that are merged in a bucket
    _bug(
        "a ledger is in no object while it is merged",
        (
            BucketObjects,
            "merge",
            "merged = bytes(content)",
            "merged = bytes(content); self._remove(parts[:-KEPT_PARTS])",
        ),
    ),
    _bug(
        "a ledger is merged, and what was read of it is kept nowhere",
        (
            BucketObjects,
            "merge",
            "self._bucket.put(key, merged, if_absent=True) or self._bucket.get(key) == merged",
            "merged",
        ),
    ),
    _bug(
        "a reader reads on in a ledger that was merged as if it still grew",
        (LedgerWalk, "_only_grows", "return writer in self._logged.state.living", "return True"),
    ),
    # Several hosts on one bucket
    _shared_bug(
        "two runs of maintenance put blocks in the place of the same ones",
        (Transaction, "commit", "self._is_overtaken()", "False"),
    ),
    _shared_bug(
        "blocks are deleted that a run has just recorded",
        (Transaction, "_is_overtaken", "or not voided.isdisjoint(changes.writers)", ""),
    ),
    _shared_bug(
        "a writer that is void records what it made",
        (Transaction, "_is_overtaken", "self.writer in changes.voided", "False"),
    ),
    _shared_bug(
        "a start closes the ledgers of all hosts",
        (handover, "take_over", "writer in (own or ())", "True"),
    ),
    _shared_bug(
        "a host does not remember its own writers",
        (GeneratorIO, "_enter_log", "self._own.note([*self._ended, started.writer])", "pass"),
    ),
    _shared_bug(
        "a session begins without a look at what its neighbours have recorded",
        (Neighbours, "look", "self._look()", "self._seen = self._log.newest().state"),
    ),
    _shared_bug(
        "ledgers that came and went between two looks are not read",
        (Neighbours, "_look", "{*state.living, *state.kept}", "{*state.living, *self._growing}"),
    ),
    _shared_bug(
        "a ledger that was closed is not read to its end",
        (Neighbours, "_look", "{*state.living, *state.kept}", "{*state.living}"),
    ),
    _shared_bug(
        "the part that ends a ledger is removed when it is merged",
        (BucketObjects, "merge", "parts[:-KEPT_PARTS]", "parts"),
    ),
    _shared_bug(
        "a ledger that was closed and merged is read on as if it still grew",
        (Neighbours, "_read_on", "is_living and writer", "writer"),
    ),
    _shared_bug(
        "a session does not say what it has seen",
        (GeneratorIO, "_entry", "seen=facts.seen", "seen=None"),
    ),
    _shared_bug(
        "a session's line is read before what it has seen",
        (LedgerWalk, "_read", "entry.seen is not None", "False"),
    ),
    _shared_bug(
        "ledgers are let go that were not read",
        (store_log, "settled", "or (read is not None and writer not in read)", ""),
    ),
    _shared_bug(
        "what others have forgotten is left out of the log",
        (store_log, "_merged", "return {**out, **{", "return {**{"),
    ),
    _shared_bug(
        "ids are in the order of clocks, not in that of the log",
        (store_log, "began", "state.last >= started.writer", "False"),
    ),
    _shared_bug(
        "who was taken for dead goes on in the ledger that others closed",
        (LedgerWriter, "append", "found = decode_ledger(", "return\n        found = decode_ledger("),
    ),
    _shared_bug(
        "who closes a dead writer's ledger leaves out its last blocks",
        (handover, "close", "[*found, Closed(time, by)]", "[Closed(time, by)]"),
    ),
    _shared_bug(
        "a neighbour is taken for dead at the first look",
        (Neighbours, "close_dead", "times >= LOOKS", "times >= 0"),
    ),
    _shared_bug(
        "a generator without sessions gives no sign of life",
        (GeneratorCore, "_measure_at", " or self._marks.awaited", ""),
    ),
    # Spark's receiver
    _bug(
        "Spark: a block counts as stored after its store has failed",
        (
            GeneratorIO,
            "write_block",
            "self._store.put_block(block, encoded.payload)",
            "try:\n        self._store.put_block(block, encoded.payload)\n    except StoreUnavailable:\n        pass",
        ),
    ),
    _bug(
        "Spark: shard end checkpoints what was delivered, not what is stored",
        (ProcessorCore, "_settle_shard_end", "effects = self._flush()\n", "return [self._checkpoints.ask(None)]\n"),
    ),
    _bug(
        "Spark: shutdown checkpoints what was delivered, not what is stored",
        (
            ProcessorCore,
            "_settle_shutdown",
            "stored = not self._kept or",
            "self._kept.safe = self._kept.delivered if "
            "not isinstance(self._kept.delivered, str) else None\n    stored = True or",
        ),
    ),
    _bug(
        "Spark: at shutdown nobody waits for what is being stored",
        (ProcessorCore, "_settle_shutdown", "effects = self._flush()\n", "return self._finish()\n"),
    ),
    _bug(
        "Spark: sequence numbers are compared as text (checkpoint)",
        (Checkpoints, "wanted", "safe > self.taken", "str(safe) > str(self.taken)"),
    ),
    _bug(
        "Spark: sequence numbers are compared as text (delivery)",
        (
            Outbox,
            "take",
            "self.delivered, key=columns.position)",
            "str(self.delivered), key=lambda row: str(columns.position(row)))",
        ),
    ),
    _bug(
        "Spark: the buffer that is filled has no bound",
        (GeneratorCore, "_admit_pending", "fits = not taken or", "fits = True or"),
    ),
    # What is reported, and when
    _bug(
        "reported before the ledger entry is durable",
        (
            GeneratorCore,
            "block_written",
            "return self._settle(now)",
            "number_stored = [part.number for part in self._pipeline._in_flight[number].parts]\n"
            "    sent = [e for part in self._pipeline._in_flight[number].parts\n"
            "            for e in self._send(part.session, Stored(max(number_stored)))]\n"
            "    return [*sent, *self._settle(now)]",
        ),
    ),
    _bug(
        "stored through the highest stored, not through the first that is missing",
        (
            Tracker,
            "stored",
            "if entry.parts == 0:",
            "if entry.parts == 0:\n        while self._entries[0] is not entry:\n            self._entries.popleft()",
        ),
    ),
    # Sessions
    _bug(
        "the check of the rank is lost",
        (SessionRegistry, "admit", "(hello.rank, hello.session) < current.seniority", "False"),
    ),
    _bug(
        "a rank is given anew at every connection",
        (ProcessorCore, "connected", "rank=self._rank", "rank=int(now * 1e9)"),
    ),
    _bug(
        "a session does not wait for the blocks of the one before it",
        (SessionRegistry, "_older_in_flight", "return any(", "return False and any("),
    ),
    _bug(
        "a session that was fenced is taken back",
        (SessionRegistry, "admit", "if known.state is State.CLOSED:", "if False:"),
        (SessionRegistry, "admit", "(hello.rank, hello.session) < current.seniority", "False"),
    ),
    _bug(
        "what is in the block being built is kept after the lease is lost, and its session forgotten",
        (GeneratorCore, "_close_session", "self._pipeline.drop(session)", "pass"),
    ),
    # What is held already
    _bug(
        "skipped by the highest number, not by the ranges that are present",
        (
            StoredSpans,
            "add",
            "every = sorted([*known, *spans])",
            "every = sorted([*known, *spans])\n"
            "    every = [(every[0][0], max(one[1] for one in every))] if every else []",
        ),
    ),
    _bug(
        "nothing is held: what is stored is stored again",
        (StoredSpans, "add", "every = sorted([*known, *spans])", "every = []"),
    ),
    _bug(
        "blocks without a ledger entry are not adopted",
        (handover, "_adopt", "store.blocks_of(writer)", "()"),
    ),
    _bug(
        "adopted blocks are not written into the ledger before it is closed",
        (handover.Takeover, "closing", "*self.adopted[writer], ", ""),
    ),
    # Positions
    _bug(
        "the sub-sequence number of a checkpoint is dropped",
        (codec, "encode_checkpoint", "sequence, sub = position", "sequence, sub = position[0], 0"),
    ),
    _bug(
        "the sub-sequence number of initialize is dropped",
        (codec, "_starting_point", "message.sub_sequence_number or 0", "0"),
    ),
    _bug(
        "a checkpoint in the middle of an aggregate",
        (Outbox, "stored", "kept.whole or self.safe", "kept.columns.position(kept.columns.count - 1)"),
    ),
    _bug(
        "the last record of a part counts as the end of its Kinesis record",
        (
            Columns,
            "last_whole",
            "for row in range(stop - 1, start - 1, -1):",
            "return self.position(stop - 1)\n    for row in ():",
        ),
    ),
    _bug(
        "what a range follows is computed from what is stored",
        (Outbox, "_keep", "after=str(part.after)", "after=str(self.safe or part.after)"),
    ),
    _bug(
        "a page that KCL reads again is taken twice",
        (Outbox, "take", "if isinstance(self.delivered, Position):", "if False:"),
    ),
    # Processor and generator
    _bug(
        "resent out of order",
        (Outbox, "send", "self.awaiting = self._to_send\n", "self.awaiting = self.next_number - 1\n"),
    ),
    _bug(
        "what is not stored is forgotten when the connection is lost",
        (ProcessorCore, "disconnected", "self._link = Link.AWAY", "self._link = Link.AWAY\n    self._kept.drop()"),
    ),
    _bug(
        "after a reconnection everything counts as sent",
        (Outbox, "resume", "self._to_send = number", "self._to_send = max(number, self._to_send)"),
    ),
    _bug(
        "a delivery is done although two of its batches are not admitted",
        (ProcessorCore, "_settle_records", "self._kept.all_sent", "(self._kept.all_sent or self._kept.awaiting)"),
    ),
    _bug(
        "what the generator said between two actions is not heard before the next",
        (Driver, "take_line", "not self._core.listens", "False"),
    ),
    _bug(
        "the window is never given back",
        (Tracker, "stored", "self._unstored_bytes -= entry.size", "pass"),
    ),
    _bug(
        "a block that failed is not tried again",
        (Pipeline, "write_again", "return [self._in_flight[number].effect]", "return []"),
    ),
    _bug(
        "an append that failed is not tried again",
        (
            Pipeline,
            "append_again",
            "return [Append(self._appending or ())]",
            "self._tried = getattr(self, '_tried', None)\n    if self._tried is self._appending:\n        return []\n"
            "    self._tried = self._appending\n    return [Append(self._appending or ())]",
        ),
    ),
    _bug(
        "a flush is not heard",
        (Pipeline, "flush", "self._flush = True", "pass"),
        (
            Pipeline,
            "cut_if_due",
            "return self._cut(min(now, due)) if self._flush or full or now >= due else []",
            "return self._cut(min(now, due)) if full else []",
        ),
    ),
    # The end
    _bug(
        "SHARD_END before the ledger says that the shard ended",
        (ProcessorCore, "_settle_shard_end", "if not self._end_confirmed:", "if False:"),
    ),
    _bug(
        "shardEnded is answered when the checkpoint was throttled",
        (ProcessorCore, "checkpoint_result", "self._checkpoints.try_again(error, now)", "return self._finish()"),
    ),
    _bug(
        "a processor waits for ever",
        (ProcessorCore, "_give_up_if_late", "if now < self._give_up_at():", "if True:"),
        (
            ProcessorCore,
            "deadline",
            "times += [self._checkpoints.retry_at, self._give_up_at()]",
            "times += [self._checkpoints.retry_at]",
        ),
    ),
    _bug(
        "shutdownRequested waits for the store beyond its time",
        (ProcessorCore, "_give_up_at", "return self._action_since + self._drain", "return self._action_since + 1e6"),
    ),
    _bug(
        "a lost lease is taken for a fault",
        (ProcessorCore, "checkpoint_result", "elif error == LEASE_GONE:", "elif error == 'no such error':"),
    ),
    # Every fsync removed, one by one
    _bug("no fsync of a block", (Directory, "_write_temporary", "self._files.fsync(handle)", _BLOCK_IS_WRITTEN)),
    _bug(
        "no fsync of an entry of the log",
        (Directory, "_write_temporary", "self._files.fsync(handle)", "name[0] == '0' or self._files.fsync(handle)"),
    ),
    _bug(
        "no fsync of a block's directory",
        (Directory, "create", _NAME, _unless("'blocks' in path.parts")),
    ),
    _bug("no fsync of the ledger", (Directory, "append", "self._files.fsync(handle)", "pass")),
    _bug(
        "no fsync of the ledger's directory",
        (Directory, "append", "self._files.fsync_dir(path.parent)", "pass"),
    ),
    _bug(
        "no fsync of a new directory's parent",
        (Directory, "_make_dir", "self._files.fsync_dir(path.parent)", "pass"),
    ),
    _bug(
        "no fsync of the parents of a new store",
        (Directory, "_make_root", "self._files.fsync_dir(parent)", "pass"),
        (Directory, "_make_root", "self._files.fsync_dir(self.root.parent)", "pass"),
    ),
    _bug(
        "no fsync of the directory of a block left behind",
        (Directory, "settle", _NAME, _unless("'blocks' in path.parts")),
    ),
    _bug(
        "the ledger of a killed writer is not settled before it is relied on",
        (handover, "take_over", 'store.settle_ledger(writer, content[: content.rfind(b"\\n") + 1])', "pass"),
    ),
    _bug(
        "the ledger of a killed writer is fsynced again instead of written anew",
        (Directory, "replace", "self._write_anew(path, content)", _FSYNC),
    ),
    _bug(
        "the blocks of a killed writer are not settled before they are adopted",
        (handover, "_adopt", "store.settle_block(entry.block)", "pass"),
    ),
    _bug(
        "lines that a failed append left in the file are believed",
        (Directory, "append", "self.replace(key, self._read(path))", "pass"),
    ),
    # One ledger after the other, and the store's log
    _bug(
        "no fsync of the directory of the log",
        (Directory, "create", _NAME, _unless("'log' in path.parts")),
    ),
    _bug(
        "an entry of the log is relied on before it is durable",
        (StoreLog, "change", "self._store.settle_log_entry(newest.number)", "pass"),
    ),
    _bug(
        "a writer is not among the living before its first line",
        (
            GeneratorIO,
            "_begin_ledger",
            "        self._enter_log()\n        ledger = self._append_first_lines(self._next)\n",
            "        ledger = self._append_first_lines(self._next)\n        self._enter_log()\n",
        ),
    ),
    _bug(
        "a writer that begins is not put among the living",
        (store_log, "began", "{**after.living, started.writer:", "{**after.living} if True else {started.writer:"),
        (store_log, "began", "state.last >= started.writer", "state.last > started.writer"),
    ),
    _bug(
        "a ledger that is closed is not kept",
        (store_log, "ended", "tuple(sorted({*state.kept, *gone}))", "state.kept"),
    ),
    _bug(
        "a ledger is not kept for what is past the checkpoint",
        (RangeCache, "needed", "one.last <= checkpoint)", "True)"),
        (
            RangeCache,
            "needed",
            "behind.append(one)",
            "behind += [one] if checkpoint is None or one.last <= checkpoint else []",
        ),
    ),
    _bug(
        "what is in ledgers that no start reads is not noted in the log (a ledger is needed no more)",
        (store_log, "_merged", "for shard, one in more.items()", "for shard, one in ()"),
    ),
    _bug(
        "what is in ledgers that no start reads is not taken from the log",
        (carried, "_recent_of", "recent.take(taken.state.forgotten)", "pass"),
    ),
    _bug(
        "the ledger of a killed writer is not closed",
        (handover.Takeover, "closing", "for writer in self.to_close:", "for writer in ():"),
    ),
    _bug(
        "a ledger that gives way to the next one is not closed",
        (
            GeneratorIO,
            "_change_ledger",
            "self._closing = [(ledger, [Closed(wall_millis(), ledger.writer)])]",
            "pass",
        ),
    ),
    _bug(
        "a ledger gives way while a block is on its way",
        (Pipeline, "append_if_due", "self._ledger_is_due and not self._in_flight", "self._ledger_is_due"),
    ),
    _bug(
        "a closed ledger takes its last line again",
        (GeneratorIO, "_close_those_before", "while self._closing:", "for one in self._closing:"),
        (GeneratorIO, "_close_those_before", "ledger, last = self._closing[0]", "ledger, last = one"),
        (GeneratorIO, "_close_those_before", "del self._closing[0]", "pass"),
        (GeneratorIO, "_begin_ledger", "self._next, self._first, self._ended = ledger, None, None, []", _CLOSING_DONE),
    ),
    _bug(
        "the log names the next ledger before the one before it is closed",
        (
            GeneratorIO,
            "_begin_ledger",
            "        self._close_those_before()\n        self._enter_log()\n",
            "        self._enter_log()\n        self._close_those_before()\n",
        ),
    ),
    _bug(
        "whose ledger was closed by a start that was killed stays among the living",
        (GeneratorIO, "prepare", "taken.state, taken.ours", "taken.state, taken.to_close"),
    ),
    _bug(
        "a start without a log reads no ledgers",
        (handover, "take_over", "else rebuilt(store)", "else StoreState()"),
    ),
    _bug(
        "repair does not begin the log anew",
        (StoreLog, "rebuild", "self._store.create_log_entry(number, line)", "True"),
    ),
    _bug(
        "repair begins the log anew without the ledgers",
        (StoreLog, "rebuild", "encode_lines([state]", "encode_lines([self.state]"),
    ),
    _bug(
        "a walk passes a ledger that was closed after it had read it",
        (LedgerWalk, "_is_done", "self._logged.state.living", "self._log.newest().state.living"),
    ),
    # Blocks that are put in the place of others
    _bug(
        "what was replaced is deleted, and no ledger says so",
        (Transaction, "commit", "store.create_maintenance_entry(number, self.writer, content)", "True"),
    ),
    _bug(
        "no fsync of the directory of maintenance ledgers",
        (Directory, "create", _NAME, _unless("'maintenance' in path.parts")),
    ),
    _bug(
        "what was put in another block is taken for gone, and stored again",
        (presence, "present_ranges", "stand_ins = _stand_ins(store, gone)", "return out"),
    ),
    # Every pair of durable steps swapped
    _bug(
        "a block gets its name before its content is durable",
        (Directory, "_write_temporary", "self._files.fsync(handle)", _BLOCK_IS_WRITTEN),
        (Directory, "create", "    return True", f"    {_FSYNC}\n    return True"),
    ),
    _bug(
        "a block's directory is fsynced before the block gets its name",
        (
            Directory,
            "create",
            f"with self._watching(), {_NAME}:",
            f"self._make_dir(path.parent)\n    with {_NAME}:\n        pass\n    with self._watching():",
        ),
    ),
    _bug(
        "a ledger that is written anew gets its name before its content is durable",
        (
            Directory,
            "replace",
            "self._write_anew(path, content)",
            "self._make_dir(self.root / TMP)\n        temporary = self.root / TMP / (path.name + self._token())\n"
            "        new = self._files.create(temporary)\n        self._files.write(new, content)\n"
            "        self._files.rename(temporary, path)\n"
            "        self._files.fsync_dir(path.parent)\n        self._files.fsync(new)",
        ),
    ),
    _bug(
        "the ledger entry comes before the block",
        (
            GeneratorIO,
            "write_block",
            "self._store.put_block(block, encoded.payload)",
            "self._ledger.append([BlockStored(block, self._identity(), encoded.ranges, encoded.rows, 1, 0)])\n"
            "    self._store.put_block(block, encoded.payload)",
        ),
    ),
    _bug(
        "a torn end of the ledger is not cut off",
        (Directory, "append", "if size is not None and size > tail.length:", "if False:"),
    ),
    # What the world does: hours without a reader, clocks that are set, what operators do
    _bug(
        "a shard that is not listed any more is taken for another stream's",
        (StreamView, "shard", "self._check_not_there(shard)", "raise StreamReplaced(shard, '')"),
    ),
    _bug(
        "the end of a shard that is not listed any more is not confirmed",
        (StreamView, "is_closed", "return found is None or", "return found is not None and"),
    ),
    _bug(
        "a link is proven whenever the shard was read",
        (Horizon, "is_good", "return ", "return True or "),
        (Horizon, "reading", "return False", "return True"),
    ),
    _bug(
        "the time from which LATEST reads is each host's own",
        (start, "pin", "return _millis(item, table)", "return now_millis // 1000 * 1000"),
    ),
    _bug(
        "a block's age is that of its ranges' ends",
        (
            Expiry,
            "_blocks",
            "arrivals = [one.arrivals for one in entry.ranges]",
            "arrivals = [one._arrivals_of_ends() for one in entry.ranges]",
        ),
    ),
    _bug(
        "repair deletes what is in no ledger, whether others hold it or not",
        (Leftovers, "orphans", "if ranges <= held]", "]"),
    ),
    _bug(
        "an expired block that is still there counts as held",
        (presence, "present_ranges", "elif block not in expired:", "else:"),
    ),
    _bug(
        "who is past a day does not look at what repair took in of it",
        (LedgerWalk, "_find_repairs", "if one.role == REPAIR:", "if False:"),
    ),
    _bug(
        "a session's start looks at blocks under the lock of storing",
        (
            GeneratorIO,
            "look_up",
            "found = MoreHeld((), None, None)\n",
            "found = MoreHeld((), None, None)\n    with self._lock:\n        present_ranges(self._store, beyond)\n",
        ),
    ),
    _bug(
        "a lease that was set back has all its ranges loaded at once",
        (GeneratorIO, "look_up", "oldest, self._page)", "oldest, 10**9)"),
    ),
    _bug(
        "what is held past the first page is stored again",
        (Session, "knows", "self.known_to is None or", "True or"),
    ),
    # On a bucket
    _bug(
        "an append to a bucket overwrites what is there",
        (
            BucketObjects,
            "append",
            "self._bucket.put(_part(key, number), lines, if_absent=True)",
            "self._bucket.put(_part(key, number), lines, if_absent=False)",
        ),
    ),
    _bug(
        "an append to a bucket whose answer was lost is damage",
        (BucketObjects, "append", "elif not self._holds(key, number, lines):", "else:"),
    ),
    _bug(
        "an object in a bucket is created over what is there",
        (BucketObjects, "create", "if_absent=True", "if_absent=False"),
    ),
)


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Put the bug in for the time of the block."""
    changed: dict[tuple[Any, str], str] = {}
    for edit in mutant.edits:
        key = edit.owner, edit.name
        source = changed.get(key) or textwrap.dedent(
            inspect.getsource(inspect.unwrap(_function(edit.owner, edit.name)))
        )
        if edit.old not in source:
            raise ValueError(f"{mutant.name}: {edit.name} does not hold {edit.old!r} any more: adapt the bug")
        changed[key] = source.replace(edit.old, edit.new)
    with ExitStack() as stack:
        for (owner, name), source in changed.items():
            space: dict[str, Any] = {}
            module = owner if inspect.ismodule(owner) else sys.modules[owner.__module__]
            exec(compile(source, f"<{mutant.name}>", "exec"), vars(module), space)
            made = space[name]
            users = [owner]
            if inspect.ismodule(owner):  # whoever has imported the name must get the bug as well
                users += [
                    one
                    for key, one in list(sys.modules.items())
                    if key.startswith("kcl_receiver")
                    and one is not owner
                    and getattr(one, name, None) is getattr(owner, name)
                ]
            for user in users:
                stack.enter_context(patch.object(user, name, made))
        yield


def _function(owner: Any, name: str) -> Any:  # noqa: ANN401
    found = vars(owner)[name]
    found = getattr(found, "__func__", found)
    return found.fget if isinstance(found, property) else found


@dataclass(frozen=True)
class Caught:
    """Which seed caught a bug, and by which invariant; seed 0 for none, and then the problem in its place."""

    mutant: str
    seed: int
    invariant: str
    seconds: float


def noted() -> dict[str, int]:
    """Return which seed caught which bug when that was last noted."""
    found: dict[str, int] = json.loads(NOTED.read_text(encoding="utf-8"))
    return found


def catch(name: str, seeds: int = MAX_SEEDS) -> Caught:
    """Run seeds with a bug until one breaks an invariant that it keeps without the bug."""
    began = time.monotonic()
    mutant = next(one for one in MUTANTS if one.name == name)
    first = noted().get(name)
    for seed in [*([] if first is None else [first]), *range(1, seeds + 1)]:
        with installed(), mutated(mutant):
            broken = Fleet(seed, limit=STEPS, shared=mutant.shared).run().broken
        if broken is not None:
            with installed():
                alone = Fleet(seed, limit=STEPS, shared=mutant.shared).run().broken
            if alone is not None:
                return Caught(name, 0, f"NOT CAUGHT: without it seed {seed} breaks {alone.invariant}", 0.0)
            if isinstance(broken.__cause__, AttributeError | NameError):
                return Caught(name, 0, f"NOT CAUGHT: it names what is not there: {broken.__cause__}", 0.0)
            return Caught(name, seed, broken.invariant, time.monotonic() - began)
    return Caught(name, 0, "NOT CAUGHT", time.monotonic() - began)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name holds this")
    parser.add_argument("--seeds", type=int, default=MAX_SEEDS, help="seeds for each bug (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--note", action="store_true", help=f"write the seeds that catch to {NOTED.name}")
    options = parser.parse_args()
    names = [mutant.name for mutant in MUTANTS if options.only in mutant.name]
    sys.stdout.write(f"{'bug':84} {'seed':>5}  invariant\n")
    missed = []
    seeds = noted()
    with multiprocessing.Pool(options.jobs) as pool:
        for caught in pool.imap_unordered(_catch, [(name, options.seeds) for name in names], chunksize=1):
            shown = str(caught.seed) if caught.seed else "-"
            sys.stdout.write(f"{caught.mutant:84} {shown:>5}  {caught.invariant}  ({caught.seconds:.0f} s)\n")
            sys.stdout.flush()
            seeds[caught.mutant] = caught.seed
            if not caught.seed:
                missed.append(caught.mutant)
    if options.note:
        kept = {mutant.name: seeds[mutant.name] for mutant in MUTANTS if seeds.get(mutant.name)}
        NOTED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"\n{len(names) - len(missed)} of {len(names)} caught\n")
    return 1 if missed else 0


def _catch(what: tuple[str, int]) -> Caught:
    return catch(*what)


if __name__ == "__main__":
    sys.exit(main())
