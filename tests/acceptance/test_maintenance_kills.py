"""Kill -9 at random moments of recover, repair and compact, with a reader following: nothing is lost, nothing doubled.

`KCL_RECEIVER_KILL_ROUNDS` sets how long it goes on, in rounds of eight kills, and `KCL_RECEIVER_KILL_SEED` the seed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

from maintenance_campaign import BEFORE, COMMITTED, DONE, PUT, RETIRED, Campaign

from kcl_receiver.emulator.server import Emulator

ROUNDS = int(os.environ.get("KCL_RECEIVER_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("KCL_RECEIVER_KILL_SEED", "1"))


def test_nothing_is_lost_or_doubled_however_often_maintenance_and_reader_are_killed(
    tmp_path: Path, emulator: Emulator
) -> None:
    with Campaign(tmp_path, emulator, SEED, records=1000 + 420 * ROUNDS) as campaign:
        go_on(campaign)
        judge(campaign)


def go_on(campaign: Campaign) -> None:
    landing, follower, rng = campaign.landing, campaign.follower, campaign.rng
    landing.land(20)
    for _ in range(ROUNDS):
        follower.ensure()
        with campaign.store.without_generator() as alone:
            # A generator is at work beside compaction and recovery.
            assert alone
            for at in rng.sample(["block", "ledger", "gone", "time"], 3):
                landing.land(rng.randint(5, 10))
                campaign.strike("compact", at, landing=True)
            landing.damage(0.33)
            for at in rng.sample(["block", "ledger", "gone", "time"], 3):
                follower.ensure()
                if rng.random() < 0.5:
                    landing.land(2)
                    follower.kill_while_it_writes()
                    follower.ensure()
                if campaign.strike("recover", at, landing=True) == DONE:
                    landing.damage(0.2)
        campaign.run("recover")
        # A generator is killed between blocks and ledger, and a ledger is spoilt, this one or an old one; repair comes
        # before the next generator, and is killed, too.
        landing.land(3, recorded=False)
        follower.stop(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        campaign.spoiled.add(landing.spoil_ledger())
        for at in rng.sample(["ledger", "gone", "time"], 2):
            campaign.strike("repair", at)
        campaign.run("repair")
        landing.restart()
    follower.ensure()
    for at, phase in (("block", PUT), ("ledger", COMMITTED), ("gone", RETIRED)):
        for _ in range(10):  # what a busy machine has let through so far
            if any(struck[phase] for struck in campaign.phases.values()):
                break
            landing.land(8)
            campaign.strike("compact", at)


def judge(campaign: Campaign) -> None:
    landing, follower = campaign.landing, campaign.follower
    for name in ("recover", "compact", "repair"):
        campaign.run(name)
    follower.ensure()
    follower.wait_for(landing.landed)
    proof = campaign.verify()
    assert proof["proven"], proof
    assert proof["blocks"]["missing"] == proof["blocks"]["damaged"] == proof["blocks"]["orphans"] == []
    assert proof["ledger"]["faults"] == []
    assert {one["state"] for one in proof["shards"]} == {"proven"}
    assert {one["writer"] for one in proof["ledger"]["acknowledged"]} >= campaign.spoiled
    assert all(one["path"].startswith(("tmp/", "ledger/damaged")) for one in proof["leftovers"])
    assert sum(one["records"] for one in proof["shards"]) == sum(map(len, landing.landed.values()))
    assert campaign.read_all() == landing.landed
    assert follower.taken == landing.landed
    struck = sum(campaign.phases.values(), Counter[str]())
    sys.stderr.write(f"kills: {dict(campaign.phases)}; follower: {dict(follower.counts)}\n")
    # The kills were no blows in the air: each phase had some.
    assert min(struck[phase] for phase in (PUT, COMMITTED, RETIRED)) > 0, campaign.phases
    assert struck[BEFORE] + struck[DONE] < sum(struck.values())
    assert follower.counts["killed"]
