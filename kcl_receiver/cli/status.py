"""`kcl-receiver status`: what is read, stored and checkpointed now."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from kcl_receiver.cli.options import output_option, properties_option
from kcl_receiver.config import ReceiverConfig, load
from kcl_receiver.errors import EXIT_ENVIRONMENT, EXIT_OK, EXIT_STREAM, ReceiverError


@click.command()
@properties_option
@output_option
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
def status(properties: str, output: str, watch: bool) -> None:
    """Show what is read, stored and checkpointed now.

    The state of each shard comes from the generator, over its socket; the checkpoints come from KCL's lease table. A
    checkpoint is at or behind what is stored, never beyond it.

    Exits with 3 if no generator answers, with 5 if the lease table can't be read; what can be shown is shown.

    \b
    Examples:
      kcl-receiver status --properties landing.properties
      kcl-receiver status --properties landing.properties --watch
      kcl-receiver status --properties landing.properties --output json
    """
    config = load(properties)
    if not watch:
        sys.exit(_show(config, output))
    try:
        while True:
            if output == "text" and sys.stdout.isatty():
                click.clear()
            _show(config, output)
            sys.stdout.flush()
            time.sleep(2)
    except KeyboardInterrupt:
        sys.exit(EXIT_OK)


def _show(config: ReceiverConfig, output: str) -> int:
    from kcl_receiver import aws  # noqa: PLC0415 - boto3: help stays quick
    from kcl_receiver.cli import view  # noqa: PLC0415
    from kcl_receiver.generator.client import ask_status  # noqa: PLC0415

    code = EXIT_OK
    generator: dict[str, Any] | None = None
    leases: list[aws.Lease] = []
    troubles: list[ReceiverError] = []
    try:
        generator = ask_status(config.socket)
    except ReceiverError as error:
        troubles.append(error)
        code = EXIT_ENVIRONMENT
    try:
        dynamodb = aws.client("dynamodb", config.region, config.dynamodb_endpoint)
        leases = aws.read_leases(dynamodb, config.table_name) or []
    except ReceiverError as error:
        troubles.append(error)
        code = code or EXIT_STREAM
    if output == "json":
        answer = {"generator": generator, "leases": [lease._asdict() for lease in leases]}
        click.echo(json.dumps(answer))
    else:
        if generator is not None:
            click.echo(f"{generator['application']}: {view.summary(generator)}")
            if generator["failing"]:
                click.secho(generator["failing"], fg="red")
            for one in generator["shards"]:
                if one["problem"]:
                    click.secho(f"{one['shard']} is not read: {one['problem']}", fg="red")
        rows = view.shard_rows(generator, leases)
        if rows:
            click.echo("\n".join(view.table(rows)))
        else:
            click.echo("no shard is read yet, and the lease table holds no lease")
    for trouble in troubles:
        click.echo(str(trouble), err=True)
    return code
