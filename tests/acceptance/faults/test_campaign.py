"""A campaign against a receiver with a deliberate bug ends with what is broken, and how to play it again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATH = os.pathsep.join(str(one) for one in (HERE.parent, HERE.parents[1] / "unit"))

REPORTS_WHAT_IS_ADMITTED = """
from kcl_receiver.generator.session import Session
from kcl_receiver.generator import tracker

# As Spark's receiver does at a shard's end: what was taken counts as stored.
tracker.Tracker.stored_through = property(lambda self: self._next - 1)
"""

SKIPS_NOTHING = """
from kcl_receiver.generator import stored_spans as held

held.StoredSpans.add = lambda self, spans=(): None
"""


def play(base: Path, bug: str, kind: str, rounds: int) -> subprocess.CompletedProcess[str]:
    """Play a campaign with a bug in every Python process that it starts."""
    patches = base / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(bug)
    path = os.pathsep.join([str(patches), PATH])
    command = [sys.executable, "-m", "faults", "--rounds", str(rounds), "--kinds", kind, "--seed", "1"]
    return subprocess.run(
        [*command, "--keep", str(base / "k")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.daemon
@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "kind", "words"),
    [
        (REPORTS_WHAT_IS_ADMITTED, "everything", "are checkpointed and in no block"),
        (SKIPS_NOTHING, "everything", "are stored twice, though no lease was taken by force"),
    ],
)
def test_a_receiver_with_a_bug_is_caught_and_everything_is_kept(
    tmp_path: Path, bug: str, kind: str, words: str
) -> None:
    done = play(tmp_path, bug, kind, rounds=5)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN: round " in done.stdout
    assert words in done.stdout
    assert f"play it again: scripts/faults --rounds 5 --seed 1 --kinds {kind}" in done.stdout
    assert list((tmp_path / "k").rglob("store.json"))
    assert list((tmp_path / "k").rglob("daemon.log"))


def test_what_cannot_be_played_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "faults"]
    environment = {**os.environ, "PYTHONPATH": PATH}
    for words, said in ((["--kinds", "flood"], "no such kind: flood"), (["--rounds", "0"], "at least 1")):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 2
        assert said in done.stderr
