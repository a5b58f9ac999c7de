"""Describes the machine and the code that a figure was made with, so that no figure stands without them."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.process import ProcessFailed

ROOT = Path(__file__).parents[2]
PACKAGES = ("amazon_kclpy", "msgspec", "pyarrow", "xxhash")
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
"""On these an fsync costs nothing, and a figure says so."""


def describe(directory: Path) -> dict[str, Any]:
    """Return what is known of this machine; `directory` is where the contestants write."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    file_system = file_system_of(directory)
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "file_system": file_system,
        "sync_is_free": file_system in MEMORY_FILE_SYSTEMS,
        "load_before": os.getloadavg()[0],
        "commit": commit(),
    }


def in_words(machine: dict[str, Any]) -> str:
    """Return one line that stands above a table: all but the date and the load, which differ from cell to cell."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    free = " (IN MEMORY: an fsync costs nothing here)" if machine["sync_is_free"] else ""
    return (
        f"Commit {machine['commit']}; {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}, {machine['file_system']}{free}; "
        f"Python {machine['python']}, {packages}"
    )


def file_system_of(directory: Path) -> str:
    """Return the type of the file system that holds a directory."""
    directory = directory.resolve()
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mounted, found, *_ = line.split()
        point = Path(mounted.replace("\\040", " "))
        if directory.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, found
    return kind


def commit() -> str:
    """Return the short name of the commit, with `+` where files of the code were changed since."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", "kcl_receiver", "benchmarks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def fingerprint(benchmark: str) -> str:
    """Return a digest of the product and of what measures it: a figure of other code is never shown for this one."""
    digest = hashlib.sha256()
    files = [ROOT / "benchmarks" / f"{benchmark}.py"]
    for folder in ("kcl_receiver", "benchmarks/harness", "benchmarks/contestants"):
        files += sorted((ROOT / folder).rglob("*.py"))
    for path in files:
        content = path.read_bytes() if path.exists() else b""
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def check_installed() -> None:
    """Return if a process that is started anywhere runs the receiver of this tree, whose digest results carry.

    Raises:
        ProcessFailed: It would run another one.
    """
    code = "import kcl_receiver; print(kcl_receiver.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    path = Path(found.stdout.strip() or "/nowhere")
    if path.resolve().parent != ROOT / "kcl_receiver":
        raise ProcessFailed(
            f"{sys.executable} runs kcl_receiver of {path}, and not of {ROOT}: pip install --editable ."
        )


def busy_seconds() -> float:
    """Return the seconds that the machine's cores were busy since its start, whoever used them."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    ticks = [int(word) for word in words[:8]]  # user, nice, system, idle, iowait, irq, softirq, steal
    return float(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
