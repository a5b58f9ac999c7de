"""A MultiLangDaemon with the KCL in it, for one host.

Written after KCL 3.1.3: ShardRecordProcessorCheckpointer (what is refused), ProcessTask (filters what is at or before
the last checkpoint), ShutdownTask (leases of children, then SHARD_END), BlockOnParentShardTask, KinesisDataFetcher (see
`stream.Fetcher`), LeaseCoordinator; and after what was seen of the MultiLangDaemon: one action at a time, checkpoints
only while an action waits, the whole daemon ends when a child dies, and processors that are started while it stops.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kcl_receiver.ranges import AT_TIMESTAMP, TRIM_HORIZON, Position
from simulation.leases import SHARD_END, Checkpoint, order
from simulation.plain_json import loads
from simulation.processor import SimProcessor
from simulation.stream import Fetcher, Page
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Host

RENEW_EVERY = 1.5
GRACE = 10.0
"""shutdownGraceMillis in seconds."""
IDLE = 0.25
"""idleTimeBetweenReadsInMillis in seconds."""
START_SECONDS = 0.8
PAGE = 12
"""maxRecords: Kinesis records a call."""


class Consumer:
    """ShardConsumer, ShardRecordProcessor and its child process for one held lease.

    Attributes:
        counter: The lease's counter as far as this worker knows.
    """

    def __init__(self, daemon: Daemon, shard_id: str, counter: int) -> None:
        self.daemon = daemon
        self.fleet = daemon.host.fleet
        self.shard = self.fleet.stream.shards[shard_id]
        self.counter = counter
        self.child: SimProcessor | None = None
        self.pending: str | None = None
        self.pending_since = 0.0
        self.initialized = False
        self.held = True
        self.shut_down_requested = False
        self.shut_down_done = False
        self.handing_over = False
        self.at_end = False
        self.done = False
        self.last: Checkpoint = ""
        self.largest: Checkpoint = ""
        self.at_shard_end: Checkpoint | None = None
        self.fetcher: Fetcher | None = None
        self.prefetched: list[Page] = []
        self.last_page: Page | None = None
        self.expire = self.again = False
        self._planned: list[Any] | None = None
        self.plan(0.05)

    def plan(self, delay: float) -> None:
        self.fleet.timeline.cancel(self._planned)
        self._planned = self.daemon.later(delay, self._step)

    # What comes next

    def _step(self) -> None:
        if self.done or self.pending is not None:
            return
        if not self.held:
            self._end_with_lease_lost()
        elif self.shut_down_requested and not self.shut_down_done:
            if self.child is None:
                self._shut_down_done()
            else:
                self._action("shutdownRequested", {})
        elif self.shut_down_done:
            pass  # waits for the lease to be given away, or for the daemon's end
        elif self.child is None:
            self._start()
        elif self.at_end:
            self._shard_end()
        else:
            self._process()

    def _start(self) -> None:
        """BlockOnParentShardTask, then InitializeTask."""
        rows = self.fleet.leases.rows
        if any(parent in rows and rows[parent].checkpoint != SHARD_END for parent in self.shard.parents):
            self.plan(1.0)
            return
        checkpoint = rows[self.shard.id].checkpoint
        if checkpoint == SHARD_END:
            self.finish()
            return
        self.last = self.largest = checkpoint
        if self.fleet.stream.expired(self.shard):
            self.fleet.seen["sessions of an expired shard"] += 1
        self.fetcher = Fetcher(self.fleet.stream, self.shard, checkpoint, self.daemon.start_millis)
        self.child = SimProcessor(self.daemon.host, self)
        self.fleet.watch.session_began(self.child, self.shard, checkpoint)
        words: dict[str, Any] = {"shardId": self.shard.id}
        if isinstance(checkpoint, Position):
            words["sequenceNumber"] = str(checkpoint.sequence_number)
            words["subSequenceNumber"] = checkpoint.sub_sequence_number
        else:
            words["sequenceNumber"] = checkpoint
        self._action("initialize", words)

    def _process(self) -> None:
        """ProcessTask."""
        fetcher = self.fetcher
        assert fetcher is not None
        page = self._next_page(fetcher)
        self.last_page = page
        if page.at_end and not page.records:
            assert self.child is not None
            self.fleet.watch.delivered(self.child, [])
            self.at_end = True
            self.plan(0.01)
            return
        last = order(self.last)
        records = [one for record in page.records for one in record if one[0] > last]
        if records and order(self.largest) < records[-1][0]:
            self.largest = records[-1][0]
        assert self.child is not None
        self.fleet.watch.delivered(self.child, [position for position, _ in records])
        self._send(
            "processRecords",
            b'{"action":"processRecords","millisBehindLatest":%d,"records":[' % page.behind
            + ",".join([text for _, text in records]).encode()
            + b"]}",
        )
        self.at_end = page.at_end

    def _next_page(self, fetcher: Fetcher) -> Page:
        """PrefetchRecordsPublisher: some pages are fetched ahead, and the one that comes next may be old."""
        if self.expire:
            self.expire = False
            fetcher.expire()
        if self.again:
            self.again = False
            if self.last_page is not None:
                self.prefetched.clear()
                fetcher.read_again(self.last_page)
        rng = self.fleet.rng
        ahead = rng.choice((1, 1, 1, 2, 3))
        while len(self.prefetched) < ahead and not (self.prefetched and self.prefetched[-1].at_end):
            self.prefetched.append(fetcher.empty() if rng.random() < 0.1 else fetcher.page(rng.randint(1, PAGE)))
        return self.prefetched.pop(0)

    def _shard_end(self) -> None:
        """ShutdownTask with the reason SHARD_END."""
        table = self.fleet.leases
        if table.rows[self.shard.id].checkpoint == SHARD_END:
            self.finish()
            return
        children = () if self.fleet.stream.expired(self.shard) else self.shard.children
        if len(children) == 1:
            (child,) = children
            if any(parent not in table.rows for parent in self.fleet.stream.shards[child].parents):
                self.plan(1.0)
                return
        for child in children:
            table.create(child)
        if self.child is not None:
            self.fleet.watch.delivered(self.child, [])
        self.at_shard_end = self.largest
        self.largest = SHARD_END
        self._action("shardEnded", {})

    def _end_with_lease_lost(self) -> None:
        if self.child is not None and self.initialized:
            self._action("leaseLost", {})
        else:
            self.finish()

    # The child

    def _action(self, name: str, words: dict[str, Any]) -> None:
        self._send(name, json.dumps({"action": name, **words}).encode())

    def _send(self, name: str, line: bytes) -> None:
        assert self.child is not None
        self.pending = name
        self.pending_since = self.fleet.timeline.now
        self.child.later(0.3 if name == "initialize" else 0.001, self.child.line, line)

    def heard(self, child: SimProcessor, line: bytes) -> None:
        """The child wrote a line."""
        if child is not self.child or self.done:
            return
        said = loads(line)
        if said["action"] == "checkpoint":
            if self.pending is None:
                self.fleet.watch.broken("protocol", f"{child.session}: a checkpoint while the daemon does not read")
            self.daemon.later(self.daemon.host.table_delay(), self._checkpoint, child, said)
            return
        if said["responseFor"] != self.pending:
            self.fleet.watch.broken("protocol", f"{child.session}: {said} while {self.pending} was asked")
        pending, self.pending = self.pending, None
        self.fleet.watch.answered(self, pending or "")
        if pending == "initialize":
            self.initialized = True
            self.plan(0.02)
        elif pending == "processRecords":
            rng = self.fleet.rng
            self.plan(0.01 if self.at_end else IDLE * (0.3 + rng.random()) * (4 if self.fleet.quiet else 1))
        elif pending == "shutdownRequested":
            self._shut_down_done()
        elif pending == "shardEnded":
            # The service's word that the shard was open no more came after the end was read, and dates it.
            self.fleet.watch.delivered(child, [])
            if self.last != SHARD_END and self.held:
                self.fleet.watch.broken("shard end", f"{self.shard.id}: shardEnded was done without SHARD_END")
            if self.last == SHARD_END:
                self.finish()
            else:
                self.plan(0.5)
        else:
            self.finish()

    def _checkpoint(self, child: SimProcessor, said: dict[str, Any]) -> None:
        if child is not self.child or self.done:
            return
        error = self._advance(said["sequenceNumber"], said.get("subSequenceNumber"))
        if self.daemon.tracing:
            self.daemon.say(f"checkpoint {said['sequenceNumber']}:{said.get('subSequenceNumber')}: {error or 'taken'}")
        answer = {"action": "checkpoint", "sequenceNumber": said["sequenceNumber"], "error": error}
        child.later(0.001, child.line, json.dumps(answer).encode())

    def _advance(self, sequence: str | None, sub: int | None) -> str | None:
        """ShardRecordProcessorCheckpointer; returns the name of an exception."""
        if sequence is None:
            wanted = self.largest
        else:
            wanted = Position(int(sequence), sub or 0)
            if not order(self.last) <= wanted <= order(self.largest):
                return "IllegalArgumentException"
        if wanted == self.last:
            return None
        record = SHARD_END if wanted == self.at_shard_end else wanted
        host, now, rng = self.daemon.host, self.fleet.timeline.now, self.fleet.rng
        if now < host.throttled_until and rng.random() < 0.7:
            return "ThrottlingException"
        if now < host.refused_until and rng.random() < 0.5:
            return rng.choice(("KinesisClientLibDependencyException",) * 4 + ("InvalidStateException",))
        if not self.held or self.daemon.consumers.get(self.shard.id) is not self:
            return "ShutdownException"
        session = "" if self.child is None else self.child.session
        if not self.fleet.leases.write(self.daemon.worker, self.shard.id, self.counter, record, session):
            self.lost()
            return "ShutdownException"
        if now < host.answers_lost_until and rng.random() < 0.5:
            return "KinesisClientLibDependencyException"  # written, and the counter here is behind now
        self.counter += 1
        self.last = record
        return None

    def child_ended(self, child: SimProcessor) -> None:
        """The child's process is gone; the daemon sees end of file."""
        if child is self.child and not self.done and self.daemon.alive:
            self.daemon.later(0.01, self.daemon.child_died, self)

    # The lease

    def lost(self) -> None:
        """The lease is not held any more; the task that runs goes on to its end."""
        if self.held:
            self.held = False
            if self.pending is None:
                self.plan(0.01)

    def request_shut_down(self) -> None:
        if not self.shut_down_requested:
            self.shut_down_requested = True
            if self.pending is None:
                self.plan(0.01)

    def _shut_down_done(self) -> None:
        self.shut_down_done = True
        row = self.fleet.leases.rows[self.shard.id]
        if self.handing_over:
            if row.was_owner == self.daemon.worker:
                self.fleet.leases.give(row, row.owner)
            self.lost()  # ShutdownNotificationTask drops the lease even if it was not its own to give any more
        if not self.held:  # now, or while the child was shutting down
            self.plan(0.01)
        self.daemon.later(0.05, self.daemon.leave_if_done)

    def finish(self) -> None:
        """ShardConsumer is done: the child's stdin is closed."""
        self.done = True
        self.held = False
        if self.child is not None and self.child.alive:
            self.child.later(0.001, self.child.input_closed)
        if self.daemon.consumers.get(self.shard.id) is self:
            del self.daemon.consumers[self.shard.id]
        self.daemon.later(0.05, self.daemon.leave_if_done)


class Daemon(Process):
    """The java process; its worker id stays the same over restarts."""

    def __init__(self, host: Host, start_millis: int | None = None) -> None:
        super().__init__(host, "daemon")
        self.start_millis = start_millis
        self.worker = f"worker-{host.name}"
        self.consumers: dict[str, Consumer] = {}
        self.takes_leases = False
        self.stopping_since: float | None = None
        self.later(START_SECONDS * host.fleet.rng.random(), self._begin)

    def _begin(self) -> None:
        self.takes_leases = True
        if not self.host.fleet.leases.rows:
            for shard in self.host.fleet.stream.listed():
                self.host.fleet.leases.create(shard.id, TRIM_HORIZON if self.start_millis is None else AT_TIMESTAMP)
        self._renew()

    def _renew(self) -> None:
        """LeaseRenewer and LeaseDiscoverer."""
        table = self.host.fleet.leases
        for shard, consumer in list(self.consumers.items()):
            if not consumer.held:
                continue
            row = table.rows[shard]
            ours = self.worker in (row.owner, row.was_owner)
            if ours and row.counter == consumer.counter + 1:  # its own write, whose answer was lost
                consumer.counter += 1
            if table.write(self.worker, shard, consumer.counter):
                consumer.counter += 1
                if row.was_owner == self.worker:
                    consumer.handing_over = True
                    consumer.request_shut_down()
            else:
                consumer.lost()
        for row in list(table.rows.values()):
            ours = row.owner == self.worker and row.was_owner is None and row.checkpoint != SHARD_END
            # Seen in reality: a daemon that is stopping starts a processor for a lease that it has just drained.
            stopping = self.stopping_since is not None and self.host.fleet.rng.random() < 0.7
            if ours and row.shard not in self.consumers and not stopping:
                row.counter += 1
                row.changed_at = self.host.fleet.timeline.now
                self.consumers[row.shard] = Consumer(self, row.shard, row.counter)
        self.later(RENEW_EVERY * (0.5 + self.host.fleet.rng.random()), self._renew)

    # The end

    def stop(self) -> None:
        """SIGTERM: every consumer is asked to shut down, then loses its lease; after the grace time all ends."""
        if self.stopping_since is not None:
            return
        self.stopping_since = self.host.fleet.timeline.now
        for consumer in list(self.consumers.values()):
            consumer.request_shut_down()
        self.later(GRACE, self.end)
        self.later(0.05, self.leave_if_done)

    def child_died(self, consumer: Consumer) -> None:
        """System.exit(1); its hook waits for the others for at most the grace time."""
        if self.tracing:
            self.say(f"the child of {consumer.shard.id} died: System.exit(1)")
        consumer.done = True
        self.consumers.pop(consumer.shard.id, None)
        self.stop()

    def leave_if_done(self) -> None:
        if self.stopping_since is None:
            return
        for consumer in list(self.consumers.values()):
            if consumer.shut_down_done and not consumer.done:
                consumer.lost()
        if not self.consumers:
            self.end()

    def end(self) -> None:
        """The process is gone, and every child reads end of file."""
        if not self.alive:
            return
        self.killed()
        if self.tracing:
            self.say("ends")
        self.host.daemon_ended(self)

    def killed(self, linger: float = 0.01) -> None:
        """The process is gone; its children read end of file after a while."""
        self.alive = False
        for consumer in self.consumers.values():
            consumer.done = True
            if consumer.child is not None and consumer.child.alive:
                consumer.child.later(linger * self.host.fleet.rng.uniform(0.3, 1.0), consumer.child.input_closed)
