"""Runs all benchmarks, one after the other, and prints their tables: what `scripts/benchmark` calls.

To add one: a module with what `benchmarks.harness.cells.Benchmark` names, and its line here.
"""

from __future__ import annotations

import sys
from typing import cast

from benchmarks import capacity, ceiling, daemon, latency, lines, scale, start
from benchmarks.harness.cells import Benchmark
from benchmarks.harness.command import main

MODULES = (ceiling, start, lines, daemon, capacity, latency, scale)
MINUTES = 45.0
"""What all of them have together in their chosen form; what does not fit is named, and is done by the next call."""

if __name__ == "__main__":
    benchmarks = [cast(Benchmark, module) for module in MODULES]
    unlimited = "--all" in sys.argv
    sys.exit(main(benchmarks, "Measures kcl_receiver beside kclpy.", None if unlimited else MINUTES))
