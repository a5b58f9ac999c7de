"""The disks of a campaign refuse and take as they are told, by whatever means this machine allows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

SCRIPT = """
import os, sys
from pathlib import Path
from faults import disks

refusal = disks.enter_namespace()
make = disks.choose_disk(refusal)
if sys.argv[2] == "plain":
    make = disks.PlainDisk
disk = make(Path(sys.argv[1]))
store = disk.path / "store"
store.mkdir()

def refused(write=lambda path: path.write_bytes(b"x" * 5000)):
    path = store / "file"
    try:
        write(path)
    except OSError as error:
        return str(error)
    finally:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass
    return ""

assert not refused()
disk.fill(os.getpid())
assert disks.is_full(refused()), refused()
disk.free()
assert not refused()
if "unwritable" not in disks.impossible_without_mounts() or not isinstance(disk, disks.PlainDisk):
    disk.lock()
    assert disks.is_locked(refused()), refused()
    disk.unlock()
    assert not refused()
    disk.unlock()
(store / "kept").write_text("kept")
disk.close(Path(sys.argv[1] + "-kept"))
assert (Path(sys.argv[1] + "-kept") / "store" / "kept").read_text() == "kept"
print(refusal)
"""


def play(tmp_path: Path, way: str) -> str:
    """Run the script in a process of its own, which leaves this one's mounts alone."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "disk"), way],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(HERE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_disk_is_full_and_read_only_while_it_is_told_to_be(tmp_path: Path) -> None:
    said = play(tmp_path, "best")
    # Where mounts are allowed, they are the campaign's own: nothing is seen of them here.
    assert said != "None" or not any((tmp_path / "disk").iterdir())


def test_where_nothing_can_be_mounted_the_kernels_other_refusals_do(tmp_path: Path) -> None:
    play(tmp_path, "plain")
