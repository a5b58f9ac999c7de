"""The demo: embedded AWS, producer, `run` as a user starts it, a live view, and the verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click

from kcl_receiver.config.properties import load
from kcl_receiver.daemon.java import find_java
from kcl_receiver.daemon.watch import Watch
from kcl_receiver.emulator.kcl import QUICK_SETTINGS
from kcl_receiver.emulator.producer import Producer
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.emulator.verdict import Verdict, judge
from kcl_receiver.errors import EXIT_AMISS, EXIT_OK, ConfigError, EnvironmentProblem
from kcl_receiver.status.live import Live
from kcl_receiver.views import terminal as view

STREAM = "demo"
APPLICATION = "demo"
COLUMNS = [column for column in view.COLUMNS if column != "owner"]
"""There is one host, and a terminal may have 80 columns."""
PUT_STEPS = 100
REFRESH_SECONDS = 0.5
PLAIN_REFRESH_SECONDS = 5.0
"""Between two lines where stdout is no terminal."""
EXPECTED_START_SECONDS = 40.0
"""Length of the progress bar: KCL's first start took 10 to 50 s where it was measured."""
LIMIT_SECONDS = 300.0
"""Without progress for so long the demo gives up."""
STOP_SECONDS = 60.0

PROPERTIES = """\
# Made by `kcl-receiver demo`. Every key is explained in properties/sample.properties.
executableName = {processor} --properties {path}
applicationName = {application}
streamName = {stream}
regionName = us-east-1
AWSCredentialsProvider = EnvironmentVariableCredentialsProvider
kinesisEndpoint = {url}
dynamoDBEndpoint = {url}
initialPositionInStream = TRIM_HORIZON
retrievalMode = POLLING
callProcessRecordsEvenForEmptyRecordList = true
shutdownGraceMillis = 20000
receiver.store = {store}
receiver.socket = {socket}
receiver.logDirectory = {logs}
# A quick start on an emulator; not for production.
{quick}
"""


def run_demo(records: int, shards: int, seconds: float, directory: Path | None) -> int:
    """Run the demo and return its exit code.

    Args:
        records: User records to put.
        shards: Shards of the stream.
        seconds: The puts are spread over so long.
        directory: Where to work; None for a new one under the system's directory for temporary files.

    Raises:
        ReceiverError: It can't run here.
    """
    find_java(None)
    base = _directory(directory)
    click.echo(f"kcl_receiver demo: {records:,} records over {shards} shards, in {base}")
    with Emulator(port=0) as emulator:
        click.echo(f"  embedded AWS at {emulator.url}")
        emulator.client("kinesis").create_stream(StreamName=STREAM, ShardCount=shards)
        properties = _write_properties(base, emulator.url)
        click.echo(f"  kcl-receiver run --properties {properties}")
        with _running(properties, emulator, base / "run.log") as run:
            producer = Producer(emulator.client("kinesis"), STREAM, seed=1)
            putting = _Putting(producer, records, seconds)
            try:
                _watch(run, properties, emulator, putting)
            finally:
                putting.stop()
            _stop(run)
        verdict = judge(producer.acknowledged, base / "store", emulator.client("dynamodb"), APPLICATION)
        _show(verdict)
        if verdict.perfect:
            _lose_and_recover(base / "store", properties, emulator)
            verdict = judge(producer.acknowledged, base / "store", emulator.client("dynamodb"), APPLICATION)
            _show_recovered(verdict)
    _show_places(base, properties)
    return EXIT_OK if verdict.perfect and verdict.put == records else EXIT_AMISS


def _directory(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="kcl-receiver-demo-"))
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"--dir {directory} is not an empty directory", "name a new one, or leave it out")
    if " " in str(directory):
        raise ConfigError(f"--dir {directory} has a space in it", "the daemon splits executableName at spaces")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write_properties(base: Path, url: str) -> Path:
    path = base / "demo.properties"
    processor = Path(sys.executable).parent / "kcl-receiver-processor"
    if not processor.exists():
        found = shutil.which("kcl-receiver-processor")
        if found is None:
            raise EnvironmentProblem("kcl-receiver-processor is not installed", "pip install kcl-receiver")
        processor = Path(found)
    text = PROPERTIES.format(
        processor=processor,
        path=path,
        application=APPLICATION,
        stream=STREAM,
        url=url,
        store=(base / "store").as_uri(),
        socket=base / "run" / "generator.sock",
        logs=base / "logs",
        quick="\n".join(f"{key} = {value}" for key, value in QUICK_SETTINGS.items()),
    )
    path.write_text(text, encoding="latin-1")
    return path


class _Putting:
    """Puts the records in a thread of its own: half of them right away, half while they are being read."""

    def __init__(self, producer: Producer, records: int, seconds: float) -> None:
        self._producer = producer
        self._records = records
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._put, name="producer", daemon=True)
        self.error: Exception | None = None
        self.done = threading.Event()
        self.reading = threading.Event()
        self._thread.start()

    @property
    def put(self) -> int:
        """Records acknowledged so far."""
        return len(self._producer.acknowledged)

    def last_positions(self) -> dict[str, tuple[int, int]]:
        """Return each shard's last acknowledged position."""
        last: dict[str, tuple[int, int]] = {}
        for one in list(self._producer.acknowledged):
            here = (one.sequence_number, one.sub_sequence_number)
            last[one.shard] = max(last.get(one.shard, here), here)
        return last

    def _put(self) -> None:
        steps = min(PUT_STEPS, self._records)
        try:
            for step in range(steps):
                count = self._records * (step + 1) // steps - self._records * step // steps
                self._producer.put(count)
                if step == steps // 2:
                    self.reading.wait()
                if self._stopped.wait(self._seconds / steps):
                    return
            self.done.set()
        except Exception as error:  # noqa: BLE001 - told by `_watch`, in the main thread
            self.error = error

    def stop(self) -> None:
        """Put nothing more."""
        self._stopped.set()
        self.reading.set()
        self._thread.join()


@contextlib.contextmanager
def _running(properties: Path, emulator: Emulator, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "kcl_receiver.cli.main", "run", "--properties", str(properties)]
    with log.open("wb") as output:
        run = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **emulator.environment},
            # A Ctrl-C of the demo reaches `run` once, from here, and not a second time from the terminal.
            start_new_session=True,
        )
        try:
            yield run
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(STOP_SECONDS)
                run.kill()
                run.wait()


def _watch(run: subprocess.Popen[bytes], properties: Path, emulator: Emulator, putting: _Putting) -> None:
    """Show the live view until everything that was put has been delivered to the processors.

    Raises:
        ReceiverError: `run` ended, nothing moves any more, or the puts fail.
    """
    # With credentials of its own: those of the settings are in the environment of `run`, and not in ours.
    watch = Watch(load(properties), emulator.client("dynamodb"))
    screen = _Screen()
    started = progress = time.monotonic()
    seen = -1
    while True:
        if run.poll() is not None:
            raise EnvironmentProblem(f"`run` ended with {run.returncode}", f"see {properties.parent / 'run.log'}")
        if putting.error is not None:
            raise EnvironmentProblem(f"the puts failed: {putting.error}") from putting.error
        now = time.monotonic()
        live = watch.look()
        stored = live.generator.records_stored if live.generator is not None else 0
        if live.reading:
            putting.reading.set()
        if stored != seen:
            seen, progress = stored, now
        if now - progress > LIMIT_SECONDS:
            raise EnvironmentProblem(
                f"nothing was stored for {LIMIT_SECONDS:.0f} s", f"see the logs in {properties.parent}"
            )
        delivered = _all_delivered(live, putting)
        screen.show(_lines(live, putting, now - started), final=delivered)
        if delivered:
            return
        time.sleep(REFRESH_SECONDS)


def _all_delivered(live: Live, putting: _Putting) -> bool:
    if live.generator is None or not putting.done.is_set():
        return False
    delivered = {one.shard: one.delivered for one in live.generator.shards}
    for shard, last in putting.last_positions().items():
        text = delivered.get(shard)
        if text is None or tuple(map(int, text.split(":"))) < last:
            return False
    return True


def _lines(live: Live, putting: _Putting, elapsed: float) -> list[str]:
    head = f"{elapsed:5.1f} s  put {putting.put:,}"
    if live.generator is None or not live.reading:
        filled = min(1.0, elapsed / EXPECTED_START_SECONDS)
        bar = "█" * round(30 * filled) + "·" * (30 - round(30 * filled))
        return [f"{head}  [{bar}] {live.phase}"]
    return [f"{head}, {view.summary(live.generator)}", *view.table(view.shard_rows(live), COLUMNS)]


class _Screen:
    """Draws over itself on a terminal; elsewhere prints the first line now and then, and everything at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._drawn = 0
        self._printed_at = 0.0

    def show(self, lines: list[str], *, final: bool) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            fitted = [line if len(click.unstyle(line)) < width else click.unstyle(line)[: width - 1] for line in lines]
            sys.stdout.write(up + "".join(f"\x1b[2K{line}\n" for line in fitted) + "\x1b[J")
            self._drawn = len(lines)
        elif final or time.monotonic() - self._printed_at >= PLAIN_REFRESH_SECONDS:
            click.echo("\n".join("  " + line for line in (lines if final else lines[:1])))
            self._printed_at = time.monotonic()
        sys.stdout.flush()


def _stop(run: subprocess.Popen[bytes]) -> None:
    """Stop `run` as a user would.

    Raises:
        EnvironmentProblem: It does not end, or not in good order.
    """
    click.echo("everything was delivered: stopping with SIGTERM, what is not stored yet is stored first")
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    try:
        code = run.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"`run` did not end within {STOP_SECONDS:.0f} s of SIGTERM") from error
    click.echo(f"stopped after {time.monotonic() - began:.1f} s")
    if code != EXIT_OK:
        raise EnvironmentProblem(f"`run` ended with {code} after SIGTERM", "see run.log in the demo's directory")


def _lose_and_recover(store: Path, properties: Path, emulator: Emulator) -> None:
    """Delete a block, and have `recover` read it again from the stream.

    Raises:
        EnvironmentProblem: `recover` does not run, or not to its end.
    """
    blocks = sorted((store / "blocks").rglob("*.parquet"))
    lost = blocks[len(blocks) // 2]
    lost.unlink()
    click.echo(f"\nAnd if a block is lost? {lost.name} is deleted now. Its ranges are in the ledger, so:")
    click.echo(f"  kcl-receiver recover --properties {properties}")
    command = [sys.executable, "-m", "kcl_receiver.cli.main", "recover", "--properties", str(properties)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **emulator.environment},
        timeout=LIMIT_SECONDS,
        check=False,
    )
    click.echo("\n".join("    " + line for line in done.stdout.splitlines()))
    if done.returncode != EXIT_OK:
        raise EnvironmentProblem(f"`recover` ended with {done.returncode}: {done.stderr.strip()}", f"see {store}")


def _show_recovered(verdict: Verdict) -> None:
    if verdict.perfect:
        click.secho(f"Verdict: it is back. All {verdict.stored:,} records are there again, exactly once.", fg="green")
    else:
        click.secho(
            f"Verdict: SOMETHING IS WRONG: {len(verdict.missing):,} records are missing, {len(verdict.altered):,} "
            f"altered, {len(verdict.doubles):,} stored twice. Please report it.",
            fg="red",
        )


def _show(verdict: Verdict) -> None:
    exact = sum(lease.exact for lease in verdict.leases)
    beyond = sum(lease.beyond for lease in verdict.leases)
    rows = [
        ("records put", verdict.put, True),
        ("records in blocks", verdict.stored, verdict.stored == verdict.put),
        ("missing", len(verdict.missing), not verdict.missing),
        ("altered", len(verdict.altered), not verdict.altered),
        ("stored twice", len(verdict.doubles), not verdict.doubles),
        ("blocks", verdict.blocks, True),
        ("leases", len(verdict.leases), True),
        ("checkpoint at the last stored position", exact, exact == len(verdict.leases)),
        ("checkpoint past what is stored", beyond, not beyond),
    ]
    click.echo("\nThe producer's list against the Parquet files (plain pyarrow) and the lease table (boto3):")
    for name, value, good in rows:
        click.echo(f"  {name:<40}" + click.style(f"{value:>10,}", fg=None if good else "red", bold=not good))
    if verdict.perfect:
        click.secho("\nVerdict: every record is stored exactly once, and every checkpoint is right.", fg="green")
    elif verdict.sound:
        click.secho("\nVerdict: nothing is lost, but see the red lines.", fg="yellow")
    else:
        click.secho("\nVerdict: SOMETHING IS WRONG, see the red lines. Please report it with the logs.", fg="red")


def _show_places(base: Path, properties: Path) -> None:
    click.echo(
        f"""
To look at:
  {base / "store" / "blocks"}     the blocks
  {base / "store" / "ledger"}     the ledger
  {base / "logs"}     what generator and daemon said
  {sys.argv[0]} verify --properties {properties} --deep
  {sys.argv[0]} read --properties {properties} --limit 5"""
    )
