"""What `verify` asks others than the store, KCL's lease table and the stream itself, and the picture that it draws.

The leases are read before the store: see `reader.leases`. What AWS does not answer leaves what the store proves as it
is, and gives the command the exit code of AWS.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kcl_receiver.audit.compare import Comparison
from kcl_receiver.audit.leases import LeaseReport, checkpoint_of, judge, look_back
from kcl_receiver.audit.recorded import RecordedRanges, record
from kcl_receiver.audit.report import EXPIRED, GAP, NOTHING, POSSIBLY_TRIMMED, PROVEN, Report, ShardReport
from kcl_receiver.audit.stream_audit import Answer, End, Hole, Question
from kcl_receiver.cli.options import StreamTarget, stream_of, stream_options
from kcl_receiver.cli.times import TIME
from kcl_receiver.config.credentials import Access
from kcl_receiver.config.values import STREAM_ARN
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_INTERRUPTED,
    EXIT_NOTHING,
    EXIT_OK,
    ConfigError,
    EnvironmentProblem,
    ReceiverError,
    StreamGone,
)
from kcl_receiver.kinesis.deaggregate import WHOLE, HashRange
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, SessionStarted
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store
from kcl_receiver.views.plot import draw
from kcl_receiver.views.terminal import human_bytes, human_lag

if TYPE_CHECKING:
    from types import FrameType

    from kcl_receiver.audit.stream_auditor import Progress
    from kcl_receiver.aws import Lease, Shard

HOUR_MS = 3_600_000


_F = TypeVar("_F", bound=Callable[..., Any])


def others_options(function: _F) -> _F:
    """Add the options of what others are asked, and of the stream; `Others.of` takes them all."""
    for option in (
        click.option("--plot", metavar="FILE.svg", help="Draw what is stored over time, one row for each shard."),
        click.option(
            "--since",
            type=TIME,
            metavar="TIME",
            help="Ask from then on: 2026-11-22T13:15:01Z, or so long ago: 90m, 6h, 2d.",
        ),
        click.option("--against-stream", is_flag=True, help="Ask the stream itself whether anything lies between."),
        click.option(
            "--leases", is_flag=True, help="Compare the checkpoints of KCL's lease table with what is stored."
        ),
    ):
        function = option(function)
    return stream_options(function)


@dataclass(slots=True)
class StreamAnswers:
    """What the stream said.

    Attributes:
        stream: Which stream.
        answers: By shard.
        elsewhere: Shards of the stream that the store knows nothing of.
        older: Number of shards of other streams of that name, which are gone.
        stopped: Somebody stopped it.
    """

    stream: StreamIdentity
    answers: dict[str, Answer] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    older: int = 0
    stopped: bool = False

    @property
    def amiss(self) -> bool:
        """Whether the stream holds what should be stored and is not, or could not be read to where it had to be."""
        return any(one.amiss or one.end is End.BROKEN_OFF for one in self.answers.values())


@dataclass(slots=True)
class Others:
    """The questions of one `verify`, and the answers.

    Attributes:
        store: The store.
        target: The stream and the lease table, if an option or the properties file names them.
        since: Ask the stream only about what arrived then or later, milliseconds since the epoch.
        table: Name of the lease table that was read.
        leases: What was found of the leases; None if nobody asked.
        stream: What was found in the stream; None if nobody asked.
        error: What AWS did not answer.
        plot: Path of the picture to draw, or None.
    """

    store: Store
    target: StreamTarget | None
    since: int | None = None
    table: str = ""
    leases: list[LeaseReport] | None = None
    stream: StreamAnswers | None = None
    error: ReceiverError | None = None
    plot: str | None = None
    asks_leases: bool = False
    asks_stream: bool = False
    _rows: list[Lease] | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        properties: str | None,
        *,
        leases: bool,
        against_stream: bool,
        since: int | None,
        plot: str | None,
        **stream: str | None,
    ) -> Others:
        """Return the questions that the options of `others_options` ask.

        Raises:
            click.UsageError: An option says nothing without another one.
            ConfigError: An option or the file is wrong.
        """
        if since is not None and not against_stream:
            raise click.UsageError("--since says from when on the stream is asked: give --against-stream, too")
        if any(stream.values()) and not (leases or against_stream):
            raise click.UsageError("the store alone needs no stream: give --leases or --against-stream, too")
        if plot is not None and not plot.lower().endswith(".svg"):
            raise click.BadParameter(f"{plot}: the picture is SVG: name a file that ends in .svg", param_hint="--plot")
        target = stream_of(properties, **stream) if leases or against_stream else None
        return cls(store, target, since, asks_leases=leases, asks_stream=against_stream, plot=plot)

    def ask(self, report: Report) -> None:
        """Draw and ask what was asked for, after the store was verified.

        Raises:
            EnvironmentProblem: The picture cannot be written.
        """
        if self.plot is not None:
            write_picture(Path(self.plot), draw(report, Ledger(self.store).sessions()))
        self.judge_leases(report)
        if self.asks_stream:
            self.ask_stream(report)

    def read_leases(self) -> None:
        """Read the lease table, if it was asked for; before the store is verified."""
        if not self.asks_leases:
            return
        from kcl_receiver import aws  # noqa: PLC0415 - boto3: verify alone does without

        try:
            application = self.store.owner()
            self.table = (self.target.table_name if self.target is not None else None) or application or ""
            if not self.table:
                raise ConfigError("the store does not say whose it is", "name the lease table: --application NAME")
            dynamodb = aws.client(self._access("dynamodb"))
            self._rows = aws.read_leases(dynamodb, self.table)
            if self._rows is None:
                raise StreamGone(f"lease table {self.table}: there is none of this name", "is --application right?")
        except ReceiverError as error:
            self.error = error

    def judge_leases(self, report: Report) -> None:
        """Compare the leases with what is stored."""
        if self._rows is None:
            return
        streams = self._streams(report)
        shards = [one for one in report.shards if streams and one.stream == streams[-1]]
        try:
            checkpoints = {one.shard: position for one in self._rows if (position := checkpoint_of(one)) is not None}
            known = {one.shard for one in shards}
            stored = {shard: position for shard, position in checkpoints.items() if shard in known}
            seen = look_back(self.store, streams[-1], stored) if streams else None
            self.leases = judge(self._rows, shards, seen)
        except ValueError as error:
            self.error = StreamGone(
                f"lease table {self.table}: {error}", "is it KCL's table, and of one stream? see --application"
            )

    def ask_stream(self, report: Report) -> None:
        """Ask the stream about every shard; Ctrl-C ends it, and what was found so far is kept."""
        try:
            self._ask_stream(report)
        except ReceiverError as error:
            self.error = self.error or error

    def exit_code(self, report: Report) -> int:
        """Return the exit code of store, leases and stream together.

        Raises:
            ReceiverError: AWS did not answer.
        """
        if self.error is not None:
            raise self.error
        if self.stream is not None and self.stream.stopped:
            return EXIT_INTERRUPTED
        leases = self.leases is not None and (not self.leases or any(one.amiss for one in self.leases))
        amiss = leases or (self.stream is not None and self.stream.amiss)
        if report.nothing_stored and not amiss:
            return EXIT_NOTHING
        return EXIT_OK if (report.proven or self.settled(report)) and not amiss else EXIT_AMISS

    def settled(self, report: Report) -> bool:
        """Tell whether the stream proves all that the store alone does not."""
        if self.stream is None or report.missing or report.damaged or report.ledger_faults or report.ledger_lost:
            return False
        return all(one.state in (PROVEN, NOTHING, EXPIRED) or self._settles(one) for one in report.shards)

    def _settles(self, shard: ShardReport) -> bool:
        if self.stream is None or shard.stream != self.stream.stream or shard.state not in (GAP, POSSIBLY_TRIMMED):
            return False
        answer = self.stream.answers.get(shard.shard)
        return answer is not None and answer.end is not End.BROKEN_OFF and answer.settles

    def _access(self, service: str) -> Access:
        target = self.target
        access = Access(service, None, None) if target is None else target.kinesis
        if target is not None and service == "dynamodb":
            access = target.dynamodb
        return access._replace(region=access.region or self._region())

    def _region(self) -> str | None:
        if self.target is not None and self.target.region is not None:
            return self.target.region
        # the newest that a good line names; verify says what is wrong with the others
        entries = Ledger(self.store, {}).entries(newest_first=True)
        stream = next((one.stream for one in entries if isinstance(one, BlockStored | SessionStarted)), None)
        found = None if stream is None else STREAM_ARN.fullmatch(stream.arn)
        return found["region"] if found else None

    def _streams(self, report: Report) -> list[StreamIdentity]:
        """Return the streams of the store that have the name that is asked for, the newest last."""
        name = self.target.stream_name or None if self.target is not None else None
        found = {one.stream for one in report.shards}
        return sorted(
            (one for one in found if name is None or one.arn.rpartition("/")[2] == name), key=lambda one: one.created
        )

    def _ask_stream(self, report: Report) -> None:
        from kcl_receiver import aws  # noqa: PLC0415 - boto3: verify alone does without
        from kcl_receiver.audit.stream_auditor import StreamAuditor  # noqa: PLC0415
        from kcl_receiver.kinesis.range_fetcher import connect  # noqa: PLC0415

        streams = self._streams(report)
        if not streams:
            raise ConfigError("nothing of this stream is in the store", "is the stream's name right?")
        stream = streams[-1]
        name, arn = stream.arn.rpartition("/")[2], self.target.stream_arn if self.target is not None else None
        kinesis = aws.client(self._access("kinesis"))
        retention = aws.describe_stream(kinesis, name, arn).retention_hours
        live = {one.id: one for one in aws.list_shards(kinesis, name, arn)}
        shards = {one.shard: one for one in report.shards if one.stream == stream}
        out = StreamAnswers(stream, elsewhere=sorted(live.keys() - shards.keys()))
        out.older = sum(one.stream in streams[:-1] for one in report.shards)
        oldest = max(round(time.time() * 1000) - retention * HOUR_MS, self.since or 0)
        stop = threading.Event()
        with record(self.store, oldest, report.orphans) as recorded:
            questions = [question(one, recorded, live.get(one.shard)) for one in shards.values()]
            for gone in [one for one in questions if one.shard not in live]:
                out.answers[gone.shard] = Comparison(gone).finish(End.GONE)
            against = StreamAuditor(
                connect(self._access("kinesis")),
                by_arn=arn is not None,
                since=self.since,
                stop=stop,
                progress=show_progress if sys.stderr.isatty() else None,
            )
            with _interrupt(stop):
                for answer in against.ask(stream, [one for one in questions if one.shard in live]):
                    out.answers[answer.shard] = answer
        out.stopped = stop.is_set()
        self.stream = out
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


@contextmanager
def _interrupt(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set an event, so that what was found so far is kept; a second one ends at once."""

    def asked(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def question(shard: ShardReport, recorded: RecordedRanges, live: Shard | None) -> Question:
    """Return what is asked about a shard.

    Args:
        shard: What `verify` found of it.
        recorded: What the ledger records.
        live: What the stream says of it now; None if it does not have it any more.
    """
    first = next(recorded.ranges(shard.stream, shard.shard), None)
    began = recorded.first_sessions.get((shard.stream, shard.shard))
    return Question(
        shard=shard.shard,
        known=recorded.ranges(shard.stream, shard.shard),
        begins=None if began is None else began.after,
        begun_before=bool(shard.spans) and (first is None or shard.spans[0].low.position < first.first),
        ended=shard.ended,
        holes=[
            Hole(what, one.after, one.through, one.before)
            for what, all_ in (("gap", shard.gaps), ("possibly trimmed", shard.possibly_trimmed))
            for one in all_
        ],
        lost=[(one.span.low, one.span.high) for one in shard.lost],
        hash_range=WHOLE if live is None else HashRange.of(live.hash_range),
    )


def write_picture(path: Path, picture: str) -> None:
    """Write a picture, whole or not at all.

    Raises:
        EnvironmentProblem: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(picture, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EnvironmentProblem(
            f"{path} cannot be written: {error.strerror}", "write: --plot /tmp/store.svg"
        ) from error


def show_progress(progress: Progress) -> None:
    """Show on the terminal how far it is, in a line that is written over."""
    behind = "" if progress.behind < 0 else f", {human_lag(progress.behind)} behind"
    slowed = f", {progress.failed} calls made again" if progress.failed else ""
    said = (
        f"asking the stream: {progress.shards} of {progress.of} shards, {human_bytes(progress.bytes)}{behind}{slowed}"
    )
    click.echo(f"\r\033[K{said}", nl=False, err=True)
