"""Plays the MultiLangDaemon's part for some processors, in one thread and without Java.

Rules of the daemon (MultiLangProtocol of KCL 3.1.3) that it keeps: a line is written only when the one before was
answered with its status (lock step); while it waits it takes checkpoints, one at a time, and answers each; a
checkpoint that goes back, or past what was delivered, is refused. Where the daemon would wait for DynamoDB (some
milliseconds a checkpoint), the answer comes at once: for every contestant alike.

Lines are written from memory, as much at a time as the pipe takes; the real daemon writes 8 KiB at a time.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

from benchmarks.harness.process import Process
from benchmarks.harness.workload import Position

LIMIT_SECONDS = 900.0
"""A run that takes longer than this is broken."""
_READ_BYTES = 65536
_START: Position = (0, 0)


class PlayFailed(Exception):
    """A processor broke the protocol, hung up, or took too long; the run has no figures."""


class Say(NamedTuple):
    """Write a line and wait for its status; `last` is the position that it delivers, if it does."""

    action: str
    line: bytes
    last: Position | None = None


class Until(NamedTuple):
    """Write nothing before this moment of `time.monotonic`."""

    moment: float


Script = Generator[Say | Until, None, None]
"""What one processor is told, step by step; it goes on when the line before was answered, or the moment has come."""

OnCheckpoint = Callable[["Peer", Position, float], None]


def initialize(shard: str) -> Say:
    """Return the first line of a session that starts at TRIM_HORIZON, as KCL writes it."""
    line = {"action": "initialize", "shardId": shard, "sequenceNumber": "TRIM_HORIZON", "subSequenceNumber": 0}
    return Say("initialize", _encode(line))


EMPTY = Say("processRecords", b'{"action":"processRecords","records":[],"millisBehindLatest":0}\n')
"""What callProcessRecordsEvenForEmptyRecordList brings when nothing was read."""
SHUTDOWN_REQUESTED = Say("shutdownRequested", b'{"action":"shutdownRequested"}\n')
LEASE_LOST = Say("leaseLost", b'{"action":"leaseLost"}\n')


class Peer:
    """One processor, as the daemon sees it.

    Attributes:
        shard: Its shard.
        process: The process.
        delivered: Last position that was written to it.
        checkpoint: Last position that was checkpointed.
        checkpoints: Number of checkpoints that were taken.
    """

    def __init__(self, shard: str, process: Process) -> None:
        self.shard = shard
        self.process = process
        self.delivered = _START
        self.checkpoint = _START
        self.checkpoints = 0
        self.script: Script | None = None
        self.action = ""
        self.wake: float | None = None
        self.heard = bytearray()
        self._pending: deque[memoryview] = deque()
        os.set_blocking(process.stdin, False)
        os.set_blocking(process.stdout, False)

    def say(self, said: Say) -> bool:
        """Begin to write a line; return whether the pipe took all of it."""
        self.action = said.action
        if said.last is not None:
            self.delivered = said.last
        return self.write(said.line)

    def write(self, line: bytes) -> bool:
        """Write as much as the pipe takes; return whether nothing is left to write."""
        self._pending.append(memoryview(line))
        return self.flush()

    def flush(self) -> bool:
        """Go on writing; return whether nothing is left to write."""
        while self._pending:
            view = self._pending[0]
            try:
                written = os.write(self.process.stdin, view)
            except BlockingIOError:
                return False
            except BrokenPipeError as error:
                raise PlayFailed(f"{self.shard}: the processor hung up: {self.process.said()}") from error
            if written < len(view):
                self._pending[0] = view[written:]
            else:
                self._pending.popleft()
        return True


class Player:
    """Runs the scripts of all processors at the same time.

    Args:
        peers: The processors.
        on_checkpoint: Told of every checkpoint that is taken: who, where, and when it was read (`time.monotonic`).
    """

    def __init__(self, peers: Iterable[Peer], on_checkpoint: OnCheckpoint | None = None) -> None:
        self._peers = list(peers)
        self.on_checkpoint = on_checkpoint
        self._by_descriptor: dict[int, Peer] = {}
        self._busy: set[Peer] = set()
        self._epoll = select.epoll()
        for peer in self._peers:
            self._by_descriptor[peer.process.stdout] = peer
            self._epoll.register(peer.process.stdout, select.EPOLLIN)
        self._writing: set[int] = set()

    def close(self) -> None:
        """Let go of the descriptors; the processes are not touched."""
        self._epoll.close()

    def run(self, script_of: Callable[[Peer], Script], limit: float = LIMIT_SECONDS) -> None:
        """Run one script for every processor until all have ended.

        Raises:
            PlayFailed: See there.
        """
        end = time.monotonic() + limit
        self._busy = set(self._peers)
        for peer in self._peers:
            peer.script = script_of(peer)
            self._advance(peer)
        while self._busy:
            now = time.monotonic()
            if now > end:
                waiting = ", ".join(f"{peer.shard} ({peer.action or 'asleep'})" for peer in self._busy)
                raise PlayFailed(f"not done after {limit:g} s: {waiting}")
            wakes = [peer.wake for peer in self._busy if peer.wake is not None]
            pause = min([end, *wakes]) - now
            for descriptor, _ in self._epoll.poll(max(pause, 0.0)):
                peer = self._by_descriptor[descriptor]
                if descriptor == peer.process.stdout:
                    self._listen(peer)
                elif peer.flush():
                    self._epoll.unregister(descriptor)
                    self._writing.discard(descriptor)
            if wakes:
                now = time.monotonic()
                for peer in [one for one in self._busy if one.wake is not None and one.wake <= now]:
                    peer.wake = None
                    self._advance(peer)

    def _advance(self, peer: Peer) -> None:
        """Carry out the next step of a processor's script."""
        script = peer.script
        if script is None:
            return
        step = next(script, None)
        if step is None:
            peer.script = None
            self._busy.discard(peer)
        elif isinstance(step, Until):
            peer.wake = step.moment
        elif not peer.say(step):
            self._write_later(peer)

    def _write_later(self, peer: Peer) -> None:
        descriptor = peer.process.stdin
        if descriptor not in self._writing:
            self._writing.add(descriptor)
            self._by_descriptor[descriptor] = peer
            self._epoll.register(descriptor, select.EPOLLOUT)

    def _listen(self, peer: Peer) -> None:
        try:
            piece = os.read(peer.process.stdout, _READ_BYTES)
        except BlockingIOError:
            return
        if not piece:
            raise PlayFailed(f"{peer.shard}: the processor hung up: {peer.process.said()}")
        peer.heard += piece
        *lines, rest = peer.heard.split(b"\n")
        peer.heard = bytearray(rest)
        for line in lines:
            if line and not line.isspace():  # kclpy writes empty lines between its messages
                self._hear(peer, bytes(line))

    def _hear(self, peer: Peer, line: bytes) -> None:
        now = time.monotonic()
        try:
            said: dict[str, Any] = json.loads(line)
            action = said["action"]
        except (ValueError, LookupError, TypeError) as error:
            raise PlayFailed(f"{peer.shard}: this is no message: {line[:200]!r}") from error
        if not peer.action:
            raise PlayFailed(f"{peer.shard}: nothing was asked, and this came: {line[:200]!r}")
        if action == "checkpoint":
            self._checkpoint(peer, said, now)
        elif action == "status" and said.get("responseFor") == peer.action:
            peer.action = ""
            self._advance(peer)
        else:
            raise PlayFailed(f"{peer.shard}: {peer.action} was asked, and this came: {line[:200]!r}")

    def _checkpoint(self, peer: Peer, said: dict[str, Any], now: float) -> None:
        sequence, sub = said["sequenceNumber"], said["subSequenceNumber"]
        position = peer.delivered if sequence is None else (int(sequence), int(sub or 0))
        if not peer.checkpoint <= position <= peer.delivered:
            raise PlayFailed(
                f"{peer.shard}: a checkpoint at {position} was asked for; the last was at {peer.checkpoint}, and "
                f"{peer.delivered} was delivered: KCL refuses it with IllegalArgumentException"
            )
        peer.checkpoint = position
        peer.checkpoints += 1
        if self.on_checkpoint is not None:
            self.on_checkpoint(peer, position, now)
        answer = {"action": "checkpoint", "sequenceNumber": sequence, "subSequenceNumber": sub, "error": None}
        if not peer.write(_encode(answer)):
            self._write_later(peer)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
