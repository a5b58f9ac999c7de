"""How long `kcl-receiver verify` takes and how much memory, and how both grow with the number of blocks.

    python -m benchmarks.verify /tmp/stores                       blocks and footers: 2,500, 5,000, 10,000, 20,000
    python -m benchmarks.verify /tmp/stores --ledger-only         the ledger alone: 125,000, 250,000, 500,000, 1,000,000

Makes each store (see make_store.py), runs the command in a process of its own, and deletes the store again. Time is
the wall's and the processors', memory the most that the process had resident. A store that was just made is found in
the page cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import make_store

SIZES = [2_500, 5_000, 10_000, 20_000]
LEDGER_SIZES = [125_000, 250_000, 500_000, 1_000_000]


def measure(command: list[str]) -> tuple[int, float, float, float]:
    """Run a command; return its exit code, wall and processor time in seconds, and the most memory in MiB."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    return code, time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Make stores, verify them, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where the stores are made; an absolute path")
    parser.add_argument("--ledger-only", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="BLOCKS")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--ranges", type=int, help="ranges of a block; 16, or 4 for the ledger alone")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the stores where they are")
    options = parser.parse_args()
    ranges = options.ranges or (4 if options.ledger_only else 16)
    print("| blocks | ranges | ledger | wall | processors | a range | memory |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for blocks in options.sizes or (LEDGER_SIZES if options.ledger_only else SIZES):
        root = options.folder / f"store-{blocks}-{ranges}"
        made = make_store.main(
            [str(root), f"--blocks={blocks}", f"--shards={options.shards}", f"--ranges={ranges}"]
            + ["--ledger-only", "--restart-every=5000", "--steal-every=1000", "--split-every=100000"]
            * options.ledger_only,
            quiet=True,
        )
        command = [sys.executable, "-m", "kcl_receiver.cli.main", "verify", "--store", f"file://{root}"]
        command += ["--ledger-only"] * options.ledger_only + ["--deep"] * options.deep
        code, wall, used, memory = measure(command)
        if code != 0:
            raise SystemExit(f"verify says {code} of {root}")
        print(
            f"| {blocks:,} | {made.ranges:,} | {made.ledger_bytes / 2**20:,.0f} MiB | {wall:.1f} s | {used:.1f} s "
            f"| {used / made.ranges * 1e6:.0f} µs | {memory:.0f} MiB |",
            flush=True,
        )
        if not options.keep:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
