"""`kcl-receiver generator`: that role alone."""

from __future__ import annotations

import logging
import os
import sys
import time

import click

from kcl_receiver.cli.options import properties_option
from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.config.properties import load
from kcl_receiver.daemon.command import refuse_latest
from kcl_receiver.times import log_time


class _Lines(logging.Formatter):
    """The same form of time as in the logs of `run` and of the daemon."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level and message, and a traceback below it."""
        return f"{log_time(record.created)} {record.levelname} {super().format(record)}"


@click.command()
@properties_option
@click.option("--leave-when-idle", is_flag=True, help="Leave after receiver.idleExitMillis without a processor.")
@click.option("--lock-fd", type=int, hidden=True)
@click.option("--begins-at", type=int, hidden=True, help="What `run` made of LATEST, milliseconds since the epoch.")
def generator(properties: str, leave_when_idle: bool, lock_fd: int | None, begins_at: int | None) -> None:
    """Run the generator alone: the process that makes blocks out of batches.

    There is one per host and application. `kcl-receiver run` starts it by itself, and so does the first processor under
    a plain java launch; run it by hand to have it under a service manager of its own.

    The first SIGTERM or SIGINT drains: waiting processors are answered, what was admitted is stored, and the generator
    leaves when its processors have, or after the drain time. The second one ends it at once; what was not stored is
    read again from Kinesis.

    \b
    Examples:
      kcl-receiver generator --properties landing.properties
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    from kcl_receiver.generator.main import run_generator  # noqa: PLC0415 - pyarrow and boto3: help stays quick

    config = load(properties)
    if not os.environ.get(SUPERVISED):
        # The daemon was started without `run`, and so with the file as it is.
        refuse_latest(config, int(time.time() * 1000))
    sys.exit(run_generator(config, inherited_lock=lock_fd, leave_when_idle=leave_when_idle, begins_at=begins_at))
