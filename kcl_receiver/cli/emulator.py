"""`kcl-receiver emulator`: the embedded AWS in the foreground."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

DEFAULT_PORT = 4567


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="TCP port; 0 for a free one."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Keep Kinesis and DynamoDB here over a restart. Without it nothing is kept.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def emulator(port: int, directory: Path | None, host: str) -> None:
    """Run an embedded AWS for trials: Kinesis, DynamoDB, S3, CloudWatch and STS.

    One port answers HTTP/2 (which KCL needs) and HTTP/1.1. Its Kinesis reshards, trims and ends shards as the service
    does. It checks no credentials and is meant for this machine alone. When it is ready it prints its URL on stdout,
    and on stderr the environment for AWS clients.

    \b
    Examples:
      kcl-receiver emulator
      kcl-receiver emulator --port 0 --dir ./aws
      aws --endpoint-url http://127.0.0.1:4567 kinesis create-stream --stream-name orders --shard-count 2
      curl -d '{"down": "dynamodb"}' http://127.0.0.1:4567/_emulator/faults
    """
    from kcl_receiver.emulator.server import Emulator  # noqa: PLC0415 - loads boto3 and more, which no other command needs

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    running = Emulator(port=port, directory=directory, host=host)
    running.start()
    try:
        for name, value in running.environment.items():
            click.echo(f"export {name}={value}", err=True)
        kept = "nothing is kept when it stops" if directory is None else f"Kinesis and DynamoDB are kept in {directory}"
        click.echo(f"# {kept}; Ctrl-C stops it", err=True)
        click.echo(running.url)
        stop.wait()
    finally:
        running.stop()
