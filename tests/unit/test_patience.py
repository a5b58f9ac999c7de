from __future__ import annotations

from pathlib import Path

from test_config import write

from kcl_receiver.config.properties import load
from kcl_receiver.daemon.startup_estimate import first_start_seconds, later_start_seconds, patience


def test_a_first_start_waits_for_the_table_the_sync_and_the_hand_out(tmp_path: Path) -> None:
    assert first_start_seconds(load(write(tmp_path))) == (66, 120)
    quick = {"shardSyncIntervalMillis": "5000", "failoverTimeMillis": "5000"}
    assert first_start_seconds(load(write(tmp_path, quick))) == (11, 55)


def test_a_later_start_waits_for_the_hand_out_at_most(tmp_path: Path) -> None:
    assert later_start_seconds(load(write(tmp_path))) == (5, 30)
    assert later_start_seconds(load(write(tmp_path, {"leaseAssignmentIntervalMillis": "4000"}))) == (5, 14)
    assert later_start_seconds(load(write(tmp_path, {"leaseAssignmentIntervalMillis": "0"}))) == (5, 30)


def test_the_user_is_told_why(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    assert "66 to 120 s, because KCL waits a random 1 to 30 s" in patience(config, first=True)
    assert "5 to 30 s" in patience(config, first=False)
