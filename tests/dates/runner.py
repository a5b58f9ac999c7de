"""Runs tests at other dates, in other zones and locales, under other host names: no test's outcome depends on these.

Each test begins at the moment that is asked for, mostly half a second before midnight, and the clock goes on from
there. Without options unit and integration tests run at four such moments, each in a zone and a locale of its own;
whatever is no option of this command goes to pytest:

    scripts/dates -n 3                                 all four; some minutes each
    scripts/dates --only leap-day tests/unit           one of them, and some of the tests
    scripts/dates --at 2027-03-28T00:59:59.5Z --zone Europe/Berlin tests/unit/test_logs.py

The tests of the real daemon are left out: java and the services agree on any date, and each would take as long again.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("wall_clock.c")
TESTS = ["tests/unit", "tests/integration"]
SLOW = [
    *("architecture", "benchmarks", "deaggregate", "generator_core_model", "hints", "lookback", "maintenance_faults"),
    *("merge", "parquet", "read_batches", "reads_that_fail", "reliability_page", "verify_model"),
    "writing_a_store",
]
"""Unit tests that take long and have nothing to do with dates, or find the same as others."""
SHORT = [
    *("-n", "3", "--no-loadscope-reorder", "tests/unit", *(f"--ignore=tests/unit/test_{name}.py" for name in SLOW)),
    *(
        f"tests/integration/test_{name}.py"
        for name in ("emulator_api", "generator", "recover_command", "verify_others")
    ),
]
HOST = "dates-of-tests"


@dataclass(frozen=True)
class Surroundings:
    """When and where the tests believe to run."""

    name: str
    moment: datetime
    zone: str = "UTC"
    locale: str = "C.UTF-8"


def surroundings() -> list[Surroundings]:
    """Return the four: next year, a leap day, the end of a month and a year, and this evening just before midnight."""
    today = datetime.now(timezone.utc)
    midnight = today.replace(hour=23, minute=59, second=59, microsecond=500_000)
    return [
        Surroundings("next-year", today + timedelta(days=366), "America/St_Johns"),
        Surroundings("leap-day", midnight.replace(year=2028, month=2, day=29), "Asia/Kolkata", "C"),
        Surroundings("end-of-month", midnight.replace(year=2027, month=12, day=31), "Pacific/Kiritimati"),
        Surroundings("midnight", midnight, "Pacific/Niue", "C"),
    ]


def library() -> Path:
    """Make the library that moves the clock.

    It is our own because libfaketime also moves the clocks that a process waits by, so that some waits never end. Told
    to leave them alone, 0.9.10 fails every `time.sleep`, and 0.9.11 lets each thread that waits for Python's global
    lock spin: four times the processor's time.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("a C compiler is needed to move the clock: apt-get install gcc")
    made = Path(tempfile.mkdtemp(prefix="dates-")) / "wall_clock.so"
    atexit.register(shutil.rmtree, made.parent)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"], check=True)
    return made


def environment(at: Surroundings, preloaded: Path) -> dict[str, str]:
    """Return the variables of the processes that shall believe in a date."""
    return {
        **os.environ,
        "LD_PRELOAD": str(preloaded),
        "WALL_CLOCK_SHIFT": "0",
        "TESTS_BEGIN_AT": str(round(at.moment.timestamp() * 1000) * 1_000_000),
        "TZ": at.zone,
        "LC_ALL": at.locale,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }


def year_seen(variables: dict[str, str]) -> str:
    """Return the year in which a process believes to be."""
    told = "from dates import plugin; import time; print(time.strftime('%Y', time.gmtime()))"
    return subprocess.run(
        [sys.executable, "-c", told], env=variables, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()


def command(tests: list[str]) -> list[str]:
    """Return the command that runs pytest, under another host name where that is allowed."""
    pytest = [sys.executable, "-m", "pytest", "-p", "dates.plugin", "-m", "not daemon and not slow", *tests]
    if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("hostname") is None:
        return pytest
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', HOST, *pytest]


def run(at: Surroundings, tests: list[str], preloaded: Path) -> int:
    """Run tests in these surroundings; return pytest's exit code."""
    variables = environment(at, preloaded)
    _say(f"=== {at.name}: {at.moment.isoformat()}, {at.zone}, {at.locale}")
    if (seen := year_seen(variables)) != str(at.moment.year):
        raise SystemExit(f"the clock of {sys.executable} cannot be moved: it is {seen} there")
    return subprocess.run(command(tests), env=variables, check=False, cwd=ROOT).returncode


def parse_moment(text: str) -> datetime:
    """Return a moment; without a zone it is in UTC."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/dates", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = surroundings()
    parser.add_argument("--only", choices=[one.name for one in known], help="one of the four moments")
    parser.add_argument("--at", type=parse_moment, metavar="MOMENT", help="at this moment instead: 2028-02-29T12:00Z")
    parser.add_argument("--zone", default="UTC", help="with --at: TZ (default: %(default)s)")
    parser.add_argument("--locale", default="C.UTF-8", help="with --at: LC_ALL (default: %(default)s)")
    parser.add_argument(
        "--short", action="store_true", help="the part that is run before each change: most unit tests, on the leap day"
    )
    options, tests = parser.parse_known_args()
    if options.short:
        options.only, tests = options.only or "leap-day", tests or SHORT
    if options.at is not None:
        chosen = [Surroundings("given", options.at, options.zone, options.locale)]
    else:
        chosen = [one for one in known if options.only in (None, one.name)]
    preloaded = library()
    failed = [one.name for one in chosen if run(one, tests or TESTS, preloaded) != 0]
    _say(f"failed at: {', '.join(failed)}" if failed else f"the tests hold at {len(chosen)} of {len(chosen)} dates")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
