"""`kcl-receiver compact`, `expire` and `followers` as people and `run` call them."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from maintenance_support import OTHER_WRITER, fill, part, present, read_all, usual
from store_support import NOW, begin, local_store, put, root_of, session_at, stop_the_clock
from test_config import write

from kcl_receiver.cli import run as run_module
from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.properties import load
from kcl_receiver.errors import EXIT_INTERRUPTED
from kcl_receiver.ids import writer_id
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.follow import follow
from kcl_receiver.store.ledger.transaction import lifecycle
from kcl_receiver.store.store import Store, open_store

DAY_MILLIS = 86_400_000


def old_store(tmp_path: Path, days: int = 30) -> Store:
    """A store whose blocks were stored so many days ago."""
    store = local_store(tmp_path / "store")
    fill(store, usual(), writer_id(time.time_ns() // 1_000_000 - days * DAY_MILLIS, "0000000a"))
    return store


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands run ten days after what these stores hold arrived."""
    stop_the_clock(monkeypatch, NOW + 10 * DAY_MILLIS)


def test_it_compacts_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = old_store(tmp_path)
    before = read_all(store)
    assert run_cli(["compact", "--store", store.url, "--dry-run"]) == 0
    assert "6 -> 1 blocks" in capsys.readouterr().out
    assert len(present(store)) == 6
    assert run_cli(["compact", "--store", store.url]) == 0
    out = capsys.readouterr().out
    assert "6 -> 1 blocks" in out
    assert "6 blocks became 1." in out
    assert len(present(store)) == 1
    assert read_all(store) == before
    assert run_cli(["compact", "--store", store.url]) == 4  # the lock of this process is held
    assert run_cli(["compact", "--store", store.url, "--dry-run"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_run_that_stopped_early_has_not_succeeded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])
    monkeypatch.setattr(Store, "is_asked_for", lambda _: next(answers))
    assert run_cli(["compact", "--store", old_store(tmp_path).url]) == EXIT_INTERRUPTED
    assert "Stopped early" in capsys.readouterr().out


def test_json_tells_each_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = old_store(tmp_path)
    assert run_cli(["compact", "--store", store.url, "--output", "json", "--dry-run"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == 1
    assert [(day["merged"], day["made"], day["damaged"]) for day in said["days"]] == [(6, 1, [])]
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    section = page.partition("## What compact prints")[2].partition("\n## ")[0]
    assert all(f"`{member}`" in section for member in (*said, *said["days"][0]))


def test_a_damaged_block_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = old_store(tmp_path)
    block = min(present(store))
    (root_of(store) / block_path(block)).write_bytes(b"nothing")
    assert run_cli(["compact", "--store", store.url]) == 1
    assert f"block {block} is damaged" in capsys.readouterr().out
    assert len(present(store)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target-bytes", "much"], "is not a size"),
        (["--compression", "brotli"], "is not one of"),
        (["--min-age", "soon"], "is not an age"),
        (["--day", "today"], "is not a day"),
        (["--day", "2026-02-30"], "is not a day"),
        (["--day", "2026-11-22", "--since", "2026-11-21"], "either --day"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run_cli(["compact", "--store", f"file://{tmp_path}/store", *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_properties_file_says_target_and_compression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = old_store(tmp_path)
    keys = {"receiver.store": store.url, "receiver.compactTargetBytes": "1", "receiver.compression": "none"}
    file = write(tmp_path, keys)
    assert load(file).compact_target_bytes == 1
    assert run_cli(["compact", "-p", str(file)]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert load(write(tmp_path, {})).compact_target_bytes is None


def test_run_compacts_all_at_first_and_then_the_last_days(tmp_path: Path) -> None:
    store = old_store(tmp_path)
    config = load(write(tmp_path, {"receiver.store": store.url, "receiver.compactTargetBytes": "1MiB"}))
    task = run_module.compaction(config)
    first, later = task.command(0), task.command(1)
    assert "--since" not in first
    since = later[later.index("--since") + 1]
    assert since == "2026-11-30"  # two days ago
    assert task.log.path.name == "compact.log"
    assert run_cli(["compact", "-p", str(config.path), "--dry-run"]) == 0


# expire


def test_expire_shows_first_and_asks_nobody_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = old_store(tmp_path)
    assert run_cli(["expire", "--store", store.url, "--before", "2026-11-23"]) == 2
    out, err = capsys.readouterr()
    assert "6 blocks" in out
    assert "--yes" in err
    assert len(present(store)) == 6


def test_expire_removes_with_yes_and_not_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = old_store(tmp_path)
    assert run_cli(["expire", "--store", store.url, "--before", "2026-11-23", "--dry-run", "--output", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [day["blocks"] for day in said["days"]] == [6]
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    section = page.partition("## What expire prints")[2].partition("\n## ")[0]
    assert all(f"`{member}`" in section for member in (*said, *said["days"][0]))
    assert len(present(store)) == 6
    assert run_cli(["expire", "--store", store.url, "--before", "2026-11-23", "--yes"]) == 0
    assert present(store) == set()


def test_a_time_to_come_and_no_time_at_all_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"file://{tmp_path}/store"
    assert run_cli(["expire", "--store", store, "--before", "2100-01-01"]) == 2
    assert "still to come" in capsys.readouterr().err
    assert run_cli(["expire", "--store", store]) == 2
    assert run_cli(["expire", "--store", store, "--before", "1d", "--declare-lifecycle", "3"]) == 2


def test_what_the_stream_still_has_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = local_store(tmp_path / "store")
    ledger = begin(store, OTHER_WRITER)
    ledger.append([session_at(retention_hours=8760), put(store, 1, part(0, 1, 5), writer=OTHER_WRITER)])
    assert run_cli(["expire", "--store", store.url, "--before", "2026-11-23", "--dry-run"]) == 0
    assert "the stream keeps records for 8760 hours" in capsys.readouterr().err


def test_a_lifecycle_is_declared_and_taken_back(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    assert run_cli(["expire", "--store", store.url, "--declare-lifecycle", "365"]) == 0
    assert lifecycle(store) == 365
    assert run_cli(["expire", "--store", store.url, "--declare-lifecycle", "0"]) == 0
    assert lifecycle(store) is None


# followers


def test_expire_says_for_whom_blocks_stay_and_followers_shows_and_forgets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = old_store(tmp_path)
    assert run_cli(["followers", "list", "--store", store.url]) == 0
    assert "nobody follows this store" in capsys.readouterr().out
    follow(store, name="orders-table")
    expire = ["expire", "--store", store.url, "--before", "2026-11-23", "--yes"]
    assert run_cli([*expire, "--dry-run", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["held"] == {"orders-table": 6}
    assert run_cli([*expire, "--dry-run"]) == 0
    assert "6 more stay: follower orders-table has not confirmed them" in capsys.readouterr().out
    assert run_cli(["followers", "list", "--store", store.url]) == 0
    head, row = (re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    assert head == ["follower", "confirmed", "host", "since"]
    assert row[:2] == ["orders-table", "nothing yet"]
    assert run_cli(["followers", "list", "--store", store.url, "--output", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    section = page.partition("## Followers")[2].partition("\n## ")[0]
    assert all(f"`{member}`" in section for member in (*said, *said["followers"][0]))
    remove = ["followers", "remove", "orders-table", "--store", store.url]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run_cli(remove) == 2
    assert "--yes" in capsys.readouterr().err
    assert run_cli([*remove, "--yes"]) == 0
    assert "Forgotten: orders-table" in capsys.readouterr().out
    assert run_cli([*remove, "--yes"]) == 4
    assert "knows no follower 'orders-table'" in capsys.readouterr().err
    assert run_cli(expire) == 0
    assert present(store) == set()


def test_followers_of_a_place_that_is_no_store_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["followers", "list", "--store", f"file://{tmp_path}/none"]) == 4
    assert "there is no store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
