"""How much memory reading a store takes, and how it grows with the number of blocks.

    python -m benchmarks.read /tmp/stores

Makes each store (see make_store.py), runs `kcl-receiver read` over all of it in a process of its own, its output thrown
away, and deletes the store again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks import make_store
from benchmarks.verify import measure

SIZES = [1_000, 4_000, 16_000]


def main() -> None:
    """Make stores, read them, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where the stores are made; an absolute path")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="BLOCKS", default=SIZES)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--ranges", type=int, default=16)
    parser.add_argument("--format", default="arrow")
    options = parser.parse_args()
    print("| blocks | records | wall | processors | memory |")
    print("|--:|--:|--:|--:|--:|")
    for blocks in options.sizes:
        root = options.folder / f"read-{blocks}"
        shape = [f"--blocks={blocks}", f"--shards={options.shards}", f"--ranges={options.ranges}"]
        made = make_store.main([str(root), *shape], quiet=True)
        command = [sys.executable, "-m", "kcl_receiver.cli.main", "read", "--store", f"file://{root}"]
        code, wall, used, memory = measure([*command, "--format", options.format])
        if code != 0:
            raise SystemExit(f"read says {code} of {root}")
        print(f"| {blocks:,} | {made.records:,} | {wall:.1f} s | {used:.1f} s | {memory:.0f} MiB |", flush=True)
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
