"""One process that fuzzes one target: libFuzzer, guided by the coverage of kcl_receiver's own code (atheris).

What it counts goes to a file, because libFuzzer ends the process by itself. Nothing of kcl_receiver is imported before
atheris can instrument it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ADDRESS_SPACE = 4 * 2**30
"""Bytes that the process may ask for: memory that is announced and never comes is an error too."""
RSS_LIMIT_MB = 1024
TIMEOUT_SECONDS = 10
MAX_LENGTH = 4096
TELL_SECONDS = 2.0


class Counts:
    """What is told to the runner."""

    def __init__(self, path: Path, runs: int) -> None:
        self._path = path
        self._runs = runs
        self._told_at = time.monotonic()
        self.inputs = 0
        self.longest = 0.0

    def took(self, seconds: float, tally: Any) -> None:  # noqa: ANN401
        """One more input is done."""
        self.inputs += 1
        self.longest = max(self.longest, seconds)
        if self.inputs >= self._runs or (self.inputs % 256 == 0 and time.monotonic() > self._told_at + TELL_SECONDS):
            self.tell(tally)

    def tell(self, tally: Any, failure: str = "") -> None:  # noqa: ANN401
        """Write it down."""
        self._told_at = time.monotonic()
        told = {
            "inputs": self.inputs,
            "longest": self.longest,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "errors": dict(tally.errors),
            "reached": dict(tally.reached),
            "failure": failure,
        }
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(told))
        temporary.replace(self._path)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.child")
    parser.add_argument("--target", required=True)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mutant", default="")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    if options.plain or options.replay is not None:
        return _plain(options)
    import atheris

    with atheris.instrument_imports(include=["kcl_receiver"]):
        run, seeds, stack = _prepare(options)
    corpus = options.work / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(seeds):
        (corpus / f"seed-{number:02}").write_bytes(content)
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            f"-artifact_prefix={options.work}/",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
            f"-timeout={TIMEOUT_SECONDS}",
            f"-max_len={MAX_LENGTH}",
        ],
        run,
    )
    with stack:
        atheris.Fuzz()
    return 0


def _prepare(options: argparse.Namespace) -> tuple[Callable[[bytes], None], list[bytes], ExitStack]:
    from fuzz.targets import load
    from fuzz.verdict import Tally

    if options.mutant:  # imports much that would mistake the stage for the world
        from simulation.mutants import mutated

        from fuzz.mutants import named
    target, place = load(options.target)
    stack = ExitStack()
    stack.enter_context(place.installed())
    if options.mutant:
        stack.enter_context(mutated(named(options.mutant)))
    tally = Tally()
    counts = Counts(options.work / "counts.json", options.runs)

    def run(data: bytes) -> None:
        began = time.perf_counter()
        try:
            target.run(data, tally)
        except BaseException as error:
            text = "".join(traceback.format_exception(error))
            counts.tell(tally, f"{type(error).__name__}: {error}"[:500])
            (options.work / "failure.txt").write_text(text)
            raise
        counts.took(time.perf_counter() - began, tally)

    return run, list(target.seeds()), stack


def _plain(options: argparse.Namespace) -> int:
    """Run one input, or inputs without guidance, where atheris is not to be had."""
    run, seeds, stack = _prepare(options)
    with stack:
        if options.replay is not None:
            run(options.replay.read_bytes())
            return 0
        for content in unguided(seeds, options.seed, options.runs):
            try:
                run(content)
            except Exception:
                (options.work / "crash-plain").write_bytes(content)
                raise
    return 0


def unguided(seeds: list[bytes], seed: int, runs: int) -> Iterator[bytes]:
    """Yield inputs: those to begin with, then random ones and changed ones in turn."""
    rng = random.Random(seed)
    yield from seeds[:runs]
    for _ in range(runs - len(seeds)):
        if rng.random() < 0.5:
            yield rng.randbytes(rng.choice((20, 60, 200, 500, 1000)))
            continue
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 8)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        yield bytes(content)


if __name__ == "__main__":
    sys.exit(main())
