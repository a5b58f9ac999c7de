"""The command verify: what it says, in which form, and with which exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from places import Kept
from store_support import NOW, SHARD, STREAM, WRITER, begin, block_range, local_store, session_at
from test_verify import OTHER_SHARD, Landing
from test_verify_changes import Landed

from kcl_receiver.cli import verify as command
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import EXIT_AMISS, EXIT_NOTHING
from kcl_receiver.ranges import LATEST, TRIM_HORIZON, Position
from kcl_receiver.store.ledger.entries import ShardEnded


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(local_store(tmp_path / "store"))


def run(capsys: pytest.CaptureFixture[str], landing: Landing, *options: str) -> tuple[int, str]:
    code = run_cli(["verify", "--store", landing.store.url, *options])
    return code, capsys.readouterr().out


def test_the_command_says_proven_and_exits_with_0(landing: Landing, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, landing)
    assert code == 0
    assert text.splitlines()[-1] == ("Proven: all that KCL delivered is stored: 10 records of 2 shards in 3 blocks.")
    assert re.search(rf"{SHARD} +proven +7 +3 +0 +2026-11-22 13:15:01Z", text)
    assert re.search(rf"{OTHER_SHARD} +proven, ended +3 +2 +0 ", text)
    assert run(capsys, landing, "--deep")[0] == 0


def test_the_command_names_what_is_amiss_and_exits_with_1(landing: Landing, capsys: pytest.CaptureFixture[str]) -> None:
    landing.kept(2).remove()
    landing.block(block_range(20, after=Position(15), session="s2"))
    landing.add(session_at(LATEST, shard="third"), session_at(7, shard="fourth"))
    code, text = run(capsys, landing)
    assert code == 1
    assert f"{SHARD}: lost: 2 records, from 4:0 to 5:0, of block {landing.blocks[1].block}" in text
    assert f"{SHARD}: gap: after 9:0 through 15:0 before 20:0: reading resumed" in text
    assert "fourth: gap: through 7:0: the first range follows a position" in text
    assert f"block {landing.blocks[1].block} is missing" in text
    assert text.splitlines()[-1].startswith(
        "NOT proven: 1 shard with lost records, 1 shard with a gap, 1 block missing. There are 9 records"
    )


def test_the_text_does_not_drown_in_names(landing: Landing, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(50):
        Kept(landing.store, f"stray-{number}").write(b"")
    text = run(capsys, landing)[1]
    assert text.count("is no part of the store") == command.SHOWN
    assert "and 30 more" in text


def test_the_json_keeps_its_form(landing: Landing, capsys: pytest.CaptureFixture[str]) -> None:
    landing.kept(2).remove()
    landing.block(block_range(20, after=Position(15), session="s2"))
    code, text = run(capsys, landing, "--output", "json")
    assert code == 1
    raw = json.loads(text)
    assert {key: raw[key] for key in ("version", "store", "application", "proven", "deep")} == {
        "version": 1,
        "store": landing.store.url,
        "application": "landing",
        "proven": False,
        "deep": False,
    }
    assert raw["blocks"] == {
        "present": 3,
        "missing": [landing.blocks[1].block],
        "damaged": [],
        "orphans": [],
        "expired": 0,
        "expired_present": [],
        "replaced": 0,
        "replaced_present": [],
    }
    assert raw["ledger_only"] is False
    assert raw["ledger"] == {"writers": 1, "lost": False, "acknowledged": [], "faults": [], "torn": []}
    assert raw["leftovers"] == []
    arrival = {key: raw["shards"][0].pop(key) for key in ("arrival_first", "arrival_last")}
    assert arrival == {"arrival_first": NOW + 1, "arrival_last": NOW + 20}
    assert raw["shards"][0] == {
        "stream": STREAM.arn,
        "stream_created": STREAM.created,
        "shard": SHARD,
        "state": "lost",
        "records": 6,
        "duplicates": 0,
        "blocks": 3,
        "first": "1:0",
        "last": "20:0",
        "ended": False,
        "gaps": [
            {
                "after": "9:0",
                "through": "15:0",
                "before": "20:0",
                "reason": "reading resumed at a checkpoint past what is stored",
                "arrival_after": NOW + 9,
                "arrival_before": NOW + 20,
            }
        ],
        "possibly_trimmed": [],
        "lost": [
            {
                "block": landing.blocks[1].block,
                "count": 2,
                "from": "4:0",
                "from_included": True,
                "to": "5:0",
                "to_included": True,
            }
        ],
        "expired": [],
        "spans": [
            {"from": "1:0", "from_included": True, "to": "9:0", "to_included": True},
            {"from": "15:0", "from_included": False, "to": "20:0", "to_included": True},
        ],
        "uncounted": {"ranges": 0, "records": 0},
    }


def test_the_command_needs_a_store_and_finds_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify"]) == 2
    assert run_cli(["verify", "--store", "s3://bucket/prefix"]) == 2
    assert run_cli(["verify", "--store", f"file://{tmp_path}/nowhere"]) == 4
    assert "there is no store at" in capsys.readouterr().err


def test_the_store_is_found_by_the_properties_file_too(
    landing: Landing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "landing.properties"
    lines = ["executableName = kcl-receiver-processor", "streamName = orders", "applicationName = landing"]
    path.write_text("\n".join([*lines, f"receiver.store = {landing.store.url}"]))
    assert run_cli(["verify", "--properties", str(path)]) == 0
    assert "Application  landing" in capsys.readouterr().out


def test_of_a_store_in_which_nothing_is_stored_yet_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = local_store(tmp_path / "empty")
    store.claim("landing")
    assert run_cli(["verify", "--store", store.url]) == EXIT_NOTHING
    assert "Nothing is stored yet: there is nothing to prove." in capsys.readouterr().out
    ledger = begin(store, WRITER)
    ledger.append([session_at(), session_at(shard=OTHER_SHARD, session="s2")])
    assert run_cli(["verify", "--store", store.url]) == EXIT_NOTHING
    out = capsys.readouterr().out
    assert "Nothing is stored yet, 2 shards begun: there is nothing to prove." in out
    assert "proven" not in out.lower()
    ledger.append([ShardEnded("s2", OTHER_SHARD, STREAM, TRIM_HORIZON, NOW)])
    assert run_cli(["verify", "--store", store.url]) == 0


def test_a_store_of_which_all_is_missing_is_amiss(landing: Landing) -> None:
    for number in (1, 2, 3):
        landing.kept(number).remove()
    assert run_cli(["verify", "--store", landing.store.url]) == EXIT_AMISS


# Of a store that maintenance has changed


@pytest.fixture
def landed(tmp_path: Path) -> Landed:
    return Landed(local_store(tmp_path / "store"))


def test_by_ledger_alone_it_says_what_may_be_stored_but_once(
    landed: Landed, capsys: pytest.CaptureFixture[str]
) -> None:
    landed.add(10, 11, after=9, session="s2")
    assert run_cli(["verify", "--store", landed.store.url, "--ledger-only"]) == 0
    text = capsys.readouterr().out
    assert "of the records counted as stored twice, 2 may be stored but once: 1 range" in text
    assert text.splitlines()[-1].startswith("Proven by the ledger alone, no block was looked at")


def test_deep_and_ledger_only_exclude_each_other(landed: Landed) -> None:
    assert run_cli(["verify", "--store", landed.store.url, "--ledger-only", "--deep"]) == 2


def test_the_text_says_what_expired_and_since_when(landed: Landed, capsys: pytest.CaptureFixture[str]) -> None:
    landed.expire(*landed.blocks[:2], retire=False)
    assert run_cli(["verify", "--store", landed.store.url]) == 0
    text = capsys.readouterr().out
    assert f"{SHARD}: expired: 4 records that had arrived before 2026-11-22 13:15:06Z" in text
    assert "removed since 2026-11-22 13:15:10Z" in text
    assert "2 blocks that were expired are still there" in text
    assert run_cli(["verify", "--store", landed.store.url, "--output", "json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert raw["blocks"]["expired_present"] == [one.block for one in landed.blocks[:2]]
    assert raw["shards"][0]["expired"][0]["before"] == NOW + 5000
