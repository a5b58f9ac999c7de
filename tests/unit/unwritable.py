"""A directory that nobody may write to, not even root, whom file modes do not stop."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REASON = "Permission denied|Read-only file system"
"""What the system says, as one or the other user."""


@contextmanager
def unwritable(path: Path) -> Iterator[Path]:
    """Make a directory that refuses to be written to: by its mode, or for root by a read-only mount."""
    path.mkdir(0o500, parents=True)
    if os.geteuid() != 0:
        yield path
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
