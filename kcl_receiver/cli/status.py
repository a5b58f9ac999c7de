"""`kcl-receiver status`: what is read, stored and checkpointed now."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from kcl_receiver.cli.options import output_option, properties_option
from kcl_receiver.config.properties import load
from kcl_receiver.errors import EXIT_OK
from kcl_receiver.status.live import Live


@click.command()
@properties_option
@output_option
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.pass_context
def status(ctx: click.Context, properties: str, output: str, watch: bool) -> None:
    """Show what is read, stored and checkpointed now.

    The state of each shard comes from the generator, over its socket; owners and checkpoints come from KCL's lease
    table. A checkpoint is at or behind what is stored, never beyond it. A shard whose processor KCL does not call any
    more is silent; an idle stream is not.

    The store itself says which generators write to it, on all hosts: below the shards, if it is more than the one here.

    Exits with 1 if nothing is being read, or a shard is silent; with 3 if no generator answers; with 4 if the store
    fails; with 5 if the stream or the lease table can't be read. What can be shown is shown.

    \b
    Examples:
      kcl-receiver status --properties landing.properties
      kcl-receiver status --properties landing.properties --watch
      kcl-receiver status --properties landing.properties --output json
    """
    from kcl_receiver.daemon.watch import Watch  # noqa: PLC0415 - boto3: help stays quick

    looking = Watch(load(properties))
    if not watch:
        ctx.exit(_show(looking.look(writers=True), output))
    try:
        while True:
            if output == "text" and sys.stdout.isatty():
                click.clear()
            _show(looking.look(writers=True), output)
            sys.stdout.flush()
            time.sleep(2)
    except KeyboardInterrupt:
        ctx.exit(EXIT_OK)


def _show(live: Live, output: str) -> int:
    from kcl_receiver.views import terminal as view  # noqa: PLC0415 - boto3: help stays quick

    if output == "json":
        click.echo(msgspec.json.encode(live))
        return live.exit_code
    if live.generator is not None:
        click.echo(f"{live.generator.application}: {view.summary(live.generator)}")
        if not live.reading:
            click.echo(f"phase: {live.phase}")
    rows = view.shard_rows(live)
    click.echo("\n".join(view.table(rows)) if rows else "no shard is read yet, and the lease table holds no lease")
    if writers := view.writer_rows(live):
        click.echo("\n" + "\n".join(view.table(writers, view.WRITER_COLUMNS)))
    for line in view.problem_lines(live):
        click.echo(line, err=live.generator is None)
    return live.exit_code
