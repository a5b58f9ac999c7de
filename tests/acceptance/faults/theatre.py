"""Plays rounds on one stream: settle, look what is in flight, strike, judge, bring back, wait for recovery, judge.

The order matters. What is in flight is asked in the moment before the strike, and must hold until the strike is over;
the first judgement comes right after the strike, when checkpoints and blocks are as the fault left them; recovery is
shown by the lease table and by records that were put after the fault was over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from landing import APPLICATION, STREAM

from faults.broken import Broken, NotNow
from faults.cloud import CloudProcess
from faults.disks import Disk
from faults.hosts import Host, InFlight
from faults.judging import Judgement, Reading, check_end, check_verify, judge_now, read_all
from faults.kinds import KINDS, LASTING, SUDDEN, WITHOUT_AWS
from faults.leadership import Leadership
from faults.leases import Place, Watch
from faults.load import Load
from faults.plan import Round, Scene
from faults.shards import Shards
from kcl_receiver.errors import EXIT_OK

SHARDS = 4
RECOVERY_SECONDS = 180.0
"""A recovery that takes longer counts as one that never comes. The longest known one is that of a host that gave up on
its store, was started again with growing pauses, and whose daemon had to wait for its whole grace time."""
SETTLE_SECONDS = 180.0
LOOK_SECONDS = 0.1
MOMENTS = 200
"""So many moments are tried until one has something in flight."""


AT_THE_CUT = 1 / 3
"""In so many of the rounds of SUDDEN kinds the strike waits for the block to be cut, to meet it while it is written."""
CUT_SECONDS = (-0.005, 0.03)
"""Around that moment. Writing takes some 10 ms."""


@dataclass(frozen=True)
class Played:
    """One round that was played.

    Attributes:
        number: Its number in the campaign.
        kind: The kind of fault.
        host: Who was struck.
        redrawn: Moments that were passed over because nothing was in flight.
        repeats: How often it had been played before, and did not count because nothing was proven to be in flight.
        in_flight: What was.
        recovery: Seconds from the strike, or the end of a fault that lasts, until what was put after it was stored and
            checkpointed.
        seconds: Of the whole round.
        put: Records that the producer's list had at the end of it.
        stored: Records in the blocks at the end of it.
        excused: Copies in the blocks beyond the first that this round brought, by leases taken by force.
        detail: What the kind has to say.
    """

    number: int
    kind: str
    host: str
    redrawn: int
    repeats: int
    in_flight: InFlight
    recovery: float
    seconds: float
    put: int
    stored: int
    excused: int
    detail: str


@dataclass(frozen=True)
class Ending:
    """How a theatre ended.

    Attributes:
        hosts: Number of hosts.
        judgement: The last judgement.
        reading: What a reader gets.
        refused: Puts that AWS did not take or whose answer was lost.
        moves: How often a lease changed its owner.
    """

    hosts: int
    judgement: Judgement
    reading: Reading
    refused: int
    moves: int


class Theatre:
    """See the module.

    Args:
        base: Its directory.
        seed: The campaign's.
        scene: What is to be played.
        make_disk: Makes the file systems of the stores.
    """

    takeover_seconds = 12.0
    """How long a frozen host's leases are left to KCL's leader before they are moved by hand."""

    def __init__(self, base: Path, seed: int, scene: Scene, make_disk: Callable[[Path], Disk]) -> None:
        self._seed = seed
        self._scene = scene
        self.cloud = CloudProcess(base / "cloud")
        self.hosts: list[Host] = []
        try:
            for number in range(1, scene.hosts + 1):
                name = f"host-{number}"
                shards = SHARDS if number == 1 else None
                self.hosts.append(Host(base / name, self.cloud, worker=name, make_disk=make_disk, shards=shards))
        except BaseException:
            self.close(keep=False)
            raise
        self.shards = Shards(self.cloud.client("kinesis"), STREAM)
        self._dynamodb = self.cloud.client("dynamodb")
        self._load = Load(self.cloud.client("kinesis"), STREAM, seed)
        self.watch = Watch(self.cloud.client("dynamodb"), APPLICATION)
        self._leadership = Leadership(self.cloud.client("dynamodb"), APPLICATION, self.hosts)
        self._doubles = 0

    def close(self, *, keep: bool) -> None:
        """End everything that was started; what the stores hold is copied to the hosts' directories if `keep`."""
        for name in ("_load", "watch", "_leadership"):
            if (part := getattr(self, name, None)) is not None:
                part.abandon()
        for host in self.hosts:
            host.clean_up(host.base / "store" if keep else None)
        self.cloud.kill()

    # ------------------------------------------------------------------ a round

    def begin(self) -> None:
        """Start hosts and load."""
        for host in self.hosts:
            host.launch()
        self._load.start()
        self.watch.start()
        self._leadership.start()

    def play(self, one: Round) -> Played:
        """Play one round until it counts.

        Raises:
            Broken: Something that must hold did not.
        """
        rng = Random(f"round {self._seed} {one.number}")
        repeats = redrawn = 0
        while True:
            played = self._play(one, rng, repeats, redrawn)
            if isinstance(played, Played):
                return played
            redrawn += played
            repeats += 1

    def _play(self, one: Round, rng: Random, repeats: int, redrawn: int) -> Played | int:
        """Play one round; return only the number of moments passed over if it does not count."""
        began = time.monotonic()
        self.settle()
        host = rng.choice([one for one in self.hosts if self.leases_of(one)])
        act = KINDS[one.kind](self, host, rng)
        next(act)
        time.sleep(rng.uniform(0, 2))
        in_flight, passed = self._moment(host, rng)
        if one.kind in SUDDEN and rng.random() < AT_THE_CUT:
            time.sleep(max(0.0, in_flight.until - time.monotonic() + rng.uniform(*CUT_SECONDS)))
        try:
            next(act)
        except NotNow:
            return passed
        struck = time.monotonic()
        missing: Collection[tuple[str, int, int]] = ()
        if one.kind not in WITHOUT_AWS:
            missing = self.judge("right after the strike").verdict.missing
        counts = in_flight.still(struck, missing)
        detail = _finish(act)
        over = time.monotonic() if one.kind in LASTING else struck
        self.load_goes_on()
        self.wait_checkpointed(self.goal_now())
        recovered = time.monotonic()
        judgement = self.judge("after the recovery")
        excused, self._doubles = judgement.excused - self._doubles, judgement.excused
        if not counts:
            return passed
        verdict = judgement.verdict
        return Played(
            number=one.number,
            kind=one.kind,
            host=host.worker,
            redrawn=redrawn + passed,
            repeats=repeats,
            in_flight=in_flight,
            recovery=recovered - over,
            seconds=time.monotonic() - began,
            put=verdict.put,
            stored=verdict.stored,
            excused=excused,
            detail=detail,
        )

    def _moment(self, host: Host, rng: Random) -> tuple[InFlight, int]:
        """Return what is in flight in the first moment that has something, and how many moments had nothing."""
        for passed in range(MOMENTS):
            found = host.in_flight()
            if found is not None and found.still(time.monotonic()):
                return found, passed
            time.sleep(rng.uniform(0.02, 0.3))
        raise Broken(f"{host.worker}: nothing was in flight in {MOMENTS} moments")

    # ------------------------------------------------------------------ judging and waiting

    def judge(self, when: str) -> Judgement:
        """Judge now.

        Raises:
            Broken: Something that must hold does not.
        """
        self.watch.check()
        judgement = self._judge()
        _raise(when, judgement.complaints())
        return judgement

    def _judge(self) -> Judgement:
        return judge_now(
            self._load.acknowledged(),
            [host.store for host in self.hosts],
            self._dynamodb,
            APPLICATION,
            ended=self.watch.ended,
            forced=self.watch.forced,
        )

    def wait(self, what: str, condition: Callable[[], Any], patience: float) -> None:
        """Wait until something holds, and see meanwhile that nothing breaks."""
        deadline = time.monotonic() + patience
        while not condition():
            self._load.check()
            self.watch.check()
            if time.monotonic() > deadline:
                for host in self.hosts:
                    host.check_running()
                raise Broken(f"waited {patience:.0f} s in vain: {what}")
            time.sleep(LOOK_SECONDS)

    def goal_now(self) -> dict[str, Place]:
        """Return the last place of every shard that was put so far."""
        goal: dict[str, Place] = {}
        for one in self._load.acknowledged():
            place = (one.sequence_number, one.sub_sequence_number)
            goal[one.shard] = max(goal.get(one.shard, place), place)
        return goal

    def wait_checkpointed(self, goal: dict[str, Place]) -> None:
        """Wait until every checkpoint is where the goal says."""
        self.wait("what was put is checkpointed", lambda: self.watch.reached(goal), RECOVERY_SECONDS)

    def load_goes_on(self) -> None:
        """Wait until some more records were put."""
        wanted = self._load.count + 50
        self.wait("more records are put", lambda: self._load.count >= wanted, RECOVERY_SECONDS)

    def settle(self) -> None:
        """Wait until every open shard has a lease whose owner reads it, and no lease is being moved.

        A lease that is moved while its processor is still being made gets KCL stuck, and no round shall begin before
        the one before it is over.
        """
        self.wait("every shard is read by its owner", self._settled, SETTLE_SECONDS)
        for host in self.hosts:
            host.check_running()

    def _settled(self) -> bool:
        rows = self.watch.look()
        shards = {one["ShardId"] for one in self.shards.open()}
        if not shards <= rows.keys():
            return False
        # Leases of closed shards must be at their end, or their children can't be read; KCL deletes them in time.
        if any(row.checkpoint_owner is not None or not (row.ended or shard in shards) for shard, row in rows.items()):
            return False
        return self._is_read(shards)

    def wait_active(self) -> None:
        """Wait until a change of shards is done."""
        self.wait("the stream is active", self.shards.active, RECOVERY_SECONDS)

    # ------------------------------------------------------------------ leases

    def leases_of(self, host: Host) -> set[str]:
        """Return the shards whose lease a host owns and that are not ended."""
        return {shard for shard, row in self.watch.look().items() if row.owner == host.worker and not row.ended}

    def wait_read(self, shards: Iterable[str]) -> None:
        """Wait until these shards are read by their owners, or have ended."""
        self.wait("leases that were moved are read", lambda: self._is_read(set(shards)), SETTLE_SECONDS)

    def _is_read(self, shards: set[str]) -> bool:
        rows = self.watch.look()
        owners = {row.owner for shard, row in rows.items() if shard in shards and not row.ended}
        read = {host.worker: host.sessions() for host in self.hosts if host.worker in owners}
        return all(shard in read.get(rows[shard].owner or "", ()) for shard in shards - self.watch.ended)

    def other(self, host: Host) -> Host:
        """Return the other host."""
        (found,) = (one for one in self.hosts if one is not host)
        return found

    # ------------------------------------------------------------------ the end

    def end(self) -> Ending:
        """Let everything land, stop in good order, and judge it all.

        Raises:
            Broken: Something that must hold does not.
        """
        self.settle()
        self._load.stop()
        self.wait_checkpointed(self.goal_now())
        self.wait("everything lands", lambda: not check_end(self._judge()), RECOVERY_SECONDS)
        self._leadership.stop()
        for host in self.hosts:
            host.supervisor().terminate()
        for host in self.hosts:
            code = host.supervisor().wait(RECOVERY_SECONDS)
            if code != EXIT_OK:
                raise Broken(f"{host.worker}: run does not stop in good order (exit code {code})")
        complaints = [words for host in self.hosts for words in host.leftovers()]
        self.watch.stop()
        self.watch.check()
        judgement = self._judge()
        complaints += check_end(judgement)
        reading = read_all(self._load.acknowledged(), [host.store for host in self.hosts])
        complaints += reading.complaints()
        if reading.records != judgement.verdict.stored:
            complaints.append(
                f"a reader gets {reading.records} records, and {judgement.verdict.stored} are in the blocks"
            )
        complaints += [words for host in self.hosts for words in self._verify(host)]
        _raise("at the end", complaints)
        return Ending(len(self.hosts), judgement, reading, self._load.refused, self.watch.moves)

    def _verify(self, host: Host) -> list[str]:
        """Return what is wrong in what `kcl-receiver verify --deep` says, or in its exit code."""
        result = host.cli("verify", "--store", host.store.as_uri(), "--deep", "--output", "json")
        alone = len(self.hosts) == 1
        if alone and result.returncode != EXIT_OK:
            return [f"verify exits with {result.returncode}: {result.stdout[-2000:]}{result.stderr[-2000:]}"]
        return check_verify(json.loads(result.stdout), alone=alone)


def _finish(act: Any) -> str:  # noqa: ANN401 - a generator
    """Let a kind bring the world back; return its words."""
    try:
        next(act)
    except StopIteration as stop:
        return str(stop.value)
    raise RuntimeError("a kind of fault has three parts")


def _raise(when: str, complaints: Collection[str]) -> None:
    if complaints:
        raise Broken(f"{when}: " + "; ".join(complaints))
