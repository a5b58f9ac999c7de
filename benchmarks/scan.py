"""What `read` costs beside a plain scan of the same Parquet files, in processor time.

    python -m benchmarks.scan /tmp/stores

Makes two stores (see make_store.py): many small ranges, and few large ones. In one process, `kcl_receiver.read` and a
scan by `pyarrow.dataset` take turns over each. The scan gives every stored record in any order; `read` gives each once
and in order, follows the chain of ranges, and checks what it gives. The first turn loads libraries and fills the page
cache, and is not shown. Time is that of all threads of the process, so other work on the machine disturbs it little.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset

from benchmarks import make_store
from kcl_receiver import read

STORES = {
    "small ranges": ["--blocks=1000", "--shards=64", "--ranges=16"],
    "large ranges": ["--blocks=100", "--shards=16", "--ranges=16", "--records=1000"],
}
CELLS: list[tuple[str, list[str] | None]] = [
    ("small ranges", None),
    ("small ranges", ["data"]),
    ("large ranges", None),
    ("large ranges", ["data"]),
]


def scan(root: Path, columns: list[str] | None) -> tuple[int, int]:
    """Scan all blocks of a store; return the number of records and of batches."""
    blocks = pyarrow.dataset.dataset(root / "blocks", format="parquet")
    sizes = [batch.num_rows for batch in blocks.scanner(columns=columns).to_batches()]
    return sum(sizes), len(sizes)


def read_all(root: Path, columns: list[str] | None) -> tuple[int, int]:
    """Read a store; return the number of records and of batches."""
    sizes = [batch.batch.num_rows for batch in read(root, columns=columns)]
    return sum(sizes), len(sizes)


def timed(what: Callable[[Path, list[str] | None], tuple[int, int]], root: Path, columns: list[str] | None) -> float:
    """Return the processor time that something takes, in seconds."""
    began = time.process_time()
    what(root, columns)
    return time.process_time() - began


def main() -> None:
    """Make stores, let both take turns, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where the stores are made; an absolute path")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="leave the stores, and use those that are there")
    options = parser.parse_args()
    for name, shape in STORES.items():
        if not _root(options.folder, name).exists():
            make_store.main([str(_root(options.folder, name)), *shape], quiet=True)
    print("| store | columns | records | batches | scan | read | read / scan |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, columns in CELLS:
        root = _root(options.folder, name)
        records, batches = read_all(root, columns)
        scan(root, columns)
        turns = [(timed(scan, root, columns), timed(read_all, root, columns)) for _ in range(options.turns)]
        ratios = sorted(ours / plain for plain, ours in turns)
        plain, ours = (statistics.median(side) for side in zip(*turns, strict=True))
        asked = "all" if columns is None else ", ".join(columns)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {asked} | {records:,} | {batches:,} | {plain:.2f} s | {ours:.2f} s | {spread} |", flush=True)
    if not options.keep:
        for name in STORES:
            shutil.rmtree(_root(options.folder, name))


def _root(folder: Path, name: str) -> Path:
    return folder / f"scan-{name.replace(' ', '-')}"


if __name__ == "__main__":
    main()
