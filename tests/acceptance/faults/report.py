"""What came of a campaign, as a page of Markdown, and each round as a line."""

from __future__ import annotations

import os
import platform
import subprocess
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from faults.kinds import KINDS
from faults.theatre import Ending, Played
from kcl_receiver import __version__
from kcl_receiver.daemon.jars import find_jars
from kcl_receiver.daemon.java import find_java


@dataclass
class Campaign:
    """What was played.

    Attributes:
        seed: The seed.
        command: The command line that plays it again.
        disk_full: By what means a disk was full.
        unwritable: By what means a store could not be written.
        left_out: Kinds that could not be played here, and why.
        played: The rounds.
        endings: The theatres.
        seconds: How long it took.
    """

    seed: int
    command: str
    disk_full: str
    unwritable: str
    left_out: list[str] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    seconds: float = 0.0


def line_of(played: Played, total: int) -> str:
    """Return one round as a line for people who watch."""
    again = f", played again {played.repeats}x" if played.repeats else ""
    return (
        f"{time.strftime('%H:%M:%S')} {played.number:3}/{total} {played.kind:13}{played.host} "
        f"in flight {played.in_flight.batches} batches {played.in_flight.bytes / 1024:5.0f} KiB, "
        f"recovered in {played.recovery:5.1f} s, round {played.seconds:5.1f} s, "
        f"put {played.put:,}, stored {played.stored:,}"
        + (f", {played.excused} stored twice after force" if played.excused else "")
        + (f" ({played.detail})" if played.detail else "")
        + again
    )


def report_of(campaign: Campaign) -> str:
    """Return the page."""
    played = campaign.played
    endings = campaign.endings
    put = sum(one.judgement.verdict.put for one in endings)
    stored = sum(one.judgement.verdict.stored for one in endings)
    totals = [
        ("rounds", len(played)),
        ("rounds played again, because nothing was proven to be in flight", sum(one.repeats for one in played)),
        ("moments passed over, because nothing was in flight", sum(one.redrawn for one in played)),
        ("user records put and acknowledged", put),
        ("records in blocks beyond the producer's list", sum(_unlisted(one) for one in endings)),
        ("records in blocks, each counted once", stored),
        ("lost", sum(len(one.judgement.verdict.missing) for one in endings)),
        ("altered", sum(len(one.judgement.altered) for one in endings)),
        ("checkpoints beyond what is stored", sum(len(one.judgement.beyond) for one in endings)),
        ("stored twice where no lease was taken by force", sum(len(one.judgement.doubled) for one in endings)),
        ("stored twice where one was: two hosts, before the reader", sum(one.judgement.excused for one in endings)),
        ("duplicates for the reader", sum(len(one.reading.doubled) for one in endings)),
        ("records that the reader misses", sum(len(one.reading.unread) for one in endings)),
        ("blocks", sum(one.judgement.verdict.blocks for one in endings)),
        ("leases that changed their owner", sum(one.moves for one in endings)),
    ]
    minutes = round(campaign.seconds / 60)
    lines = [
        "# Real faults: a report",
        "",
        f"`{campaign.command}`: {len(played)} rounds in {minutes} minutes, on {machine()}.",
        f"{versions()}. Theatres, one after the other: {_theatres(endings)}.",
        "",
        *_wrapped(
            f"{_INTRODUCTION} A full disk is {campaign.disk_full}; an unwritable store is {campaign.unwritable}."
        ),
        *campaign.left_out,
        "",
        "| fault | rounds | played again | batches in flight | recovery | longest | copies |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(kind, found) for kind in KINDS if (found := [one for one in played if one.kind == kind])),
        "",
        *_wrapped(_COLUMNS),
        "",
        "| in all | |",
        "|---|--:|",
        *(f"| {name} | {value:,} |" for name, value in totals),
        "",
        *_wrapped(_NOTES),
    ]
    return "\n".join(lines) + "\n"


_INTRODUCTION = (
    "A round is one fault and its recovery while records keep coming, through the real java MultiLangDaemon and "
    "`kcl-receiver run` on the [emulator](emulator.md). It counts only if a batch was admitted and not stored when the "
    "fault struck: the generator is asked right before, and the answer must hold until the strike is over. What was "
    "found is judged right after the strike and after the recovery, by the producer's own list, plain pyarrow and the "
    "lease table; and at the end of each theatre, where everything stops in good order, also by the reader, by "
    "`kcl-receiver verify --deep`, and by a look for processes and locks that were left."
)

_COLUMNS = (
    "*Played again*: rounds that did not count. *Batches in flight*: the median, at least; one for each shard that "
    "had any. *Recovery*: the median of the seconds from the strike, or from the end of a fault that lasts, until all "
    "that was put up to then and some more was stored and checkpointed. *Copies*: records that came to be in the "
    "blocks of two hosts, which happens where a lease is taken from a host that is still writing; the reader gets "
    "them once."
)

_NOTES = (
    "*Records beyond the list*: puts whose answer a fault took away, and aggregates that came to a new shard right "
    "after a reshard, which the producer put again, and which KCL, not knowing the new shard's hash keys for a while, "
    "handed out all the same. *Two hosts*: KCL's balancing is all but switched off, because with so few shards it "
    "never ends. The lock of a leader whose daemon died is removed from KCL's table, as if the two minutes had passed "
    "that KCL waits for it."
)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _unlisted(ending: Ending) -> int:
    return ending.judgement.verdict.unlisted


def _row(kind: str, played: Sequence[Played]) -> str:
    said = " ".join((KINDS[kind].__doc__ or "").split()).rstrip(".")
    recoveries = [one.recovery for one in played]
    cells = [
        f"`{kind}`: {said}",
        str(len(played)),
        str(sum(one.repeats for one in played)),
        f"{median(one.in_flight.batches for one in played):g}",
        f"{median(recoveries):.1f} s",
        f"{max(recoveries):.1f} s",
        f"{sum(one.excused for one in played):,}",
    ]
    return f"| {' | '.join(cells)} |"


def _theatres(endings: Sequence[Ending]) -> str:
    alone = sum(1 for one in endings if one.hosts == 1)
    return f"{alone} of one host, {len(endings) - alone} of two"


def machine() -> str:
    """Return what this runs on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def versions() -> str:
    """Return what was under test."""
    jar = next(find_jars().glob("amazon-kinesis-client-[0-9]*.jar"))
    kcl = jar.stem[len("amazon-kinesis-client-") :]
    java = find_java()
    return f"kcl_receiver {__version__}{_commit()}, KCL {kcl}, Java {java.version}, Python {platform.python_version()}"


def _commit() -> str:
    """Return which commit this is, as far as git can tell."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return f" (commit {said.stdout.strip()})" if said.returncode == 0 else ""
