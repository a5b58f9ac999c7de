"""`kcl-receiver demo`: the main job on an embedded AWS, judged from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--records", default=20_000, show_default=True, type=click.IntRange(1), help="User records to put.")
@click.option("--shards", default=4, show_default=True, type=click.IntRange(1, 64), help="Shards of the stream.")
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Spread the puts over so long, the start not counted.",
)
@click.option("--dir", "directory", metavar="DIR", help="Work in this directory, which must be empty or new.")
def demo(records: int, shards: int, seconds: float, directory: str | None) -> None:
    """Land a stream on this machine and judge the result: no AWS account, no settings.

    Starts the embedded AWS, makes a stream, puts records of many sizes while `kcl-receiver run` reads it with the real
    java daemon, stops that by SIGTERM as soon as everything was delivered, and compares: what the producer was told to
    be in the stream, with what plain pyarrow finds in the Parquet files and what boto3 finds in the lease table. Then
    it deletes a block, and has `recover` read it again from the stream.

    Needs the extra `emulator`, and Java 17 or later or the extra `java`. Takes about a minute, most of it KCL's own
    first start. Exits with 0 only if every record is there once and every checkpoint is where it should be.

    \b
    Examples:
      kcl-receiver demo
      kcl-receiver demo --records 200000 --shards 8 --seconds 60
      kcl-receiver demo --dir /tmp/landing
    """
    from kcl_receiver.emulator.demo import run_demo  # noqa: PLC0415 - moto and pyarrow: help stays quick

    path = None if directory is None else Path(directory).absolute()
    sys.exit(run_demo(records, shards, seconds, path))
