"""The command repair: what it shows, when it asks, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from maintenance_support import fill, part, usual
from store_support import WRITER, local_store, put

from kcl_receiver.cli.main import run_cli
from kcl_receiver.ids import block_id
from kcl_receiver.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = local_store(tmp_path / "store")
    store.claim("landing")
    fill(store, usual(2))
    put(store, 99, part(0, 500, 5))
    return store


def test_without_a_terminal_it_shows_and_does_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        assert run_cli(["repair", "--store", store.url, *options]) == 1
        shown = capsys.readouterr()
        assert "To do: take in (1)" in shown.out
        assert ("give --yes" in shown.err) == (not options)
        assert store.maintenance_days() == []


def test_with_yes_it_is_done_and_the_next_run_has_nothing_to_do(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["repair", "--store", store.url, "--yes"]) == 0
    assert "Done: take in (1)" in capsys.readouterr().out
    assert run_cli(["repair", "--store", store.url]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_the_json_says_all(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["repair", "--store", store.url, "--output", "json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "version": 1,
        "store": store.url,
        "done": False,
        "in_order": False,
        "actions": [{"kind": "take in", "thing": block_id(WRITER, 99), "reason": "it is in no ledger; 5 records"}],
        "left": [],
    }


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_on_a_terminal_it_asks(store: Store, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("click.confirm", lambda text: answer == "y\n" and text == "Do this?")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run_cli(["repair", "--store", store.url]) == (0 if answer == "y\n" else 1)
    assert bool(store.maintenance_days()) == (answer == "y\n")
