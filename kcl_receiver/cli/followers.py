"""`kcl-receiver followers`: who follows a store under a name, and for whom `expire` waits."""

from __future__ import annotations

import dataclasses
import json
import time

import click

from kcl_receiver.cli.options import output_option, properties_or_other_option, require_yes, store_of, store_option
from kcl_receiver.errors import EXIT_OK
from kcl_receiver.store.store import open_store
from kcl_receiver.times import shown_time

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""


@click.group()
def followers() -> None:
    """Show who follows the store under a name, or forget one that is gone.

    A table, an index or a copy that is kept by `kcl_receiver.follow` with a name is known to the store: `expire`
    removes nothing that it has not confirmed. One that is gone for good holds all that came since, until it is removed
    here.

    \b
    Examples:
      kcl-receiver followers list --store file:///data/landing
      kcl-receiver followers remove orders-table --properties landing.properties
    """


@followers.command("list")
@store_option
@properties_or_other_option
@output_option
def list_(store: str | None, properties: str | None, output: str) -> int:
    """Show the followers, and when each has confirmed last that it has taken in what came.

    Exit code 0; 2 wrong options; 4 the store.
    """
    from kcl_receiver.store.ledger.followers import followers as known  # noqa: PLC0415 - pyarrow: help does without it

    place = open_store(store_of(store, properties))
    place.require()
    found = known(place)
    if output == "json":
        told = [dataclasses.asdict(one) for one in found]
        click.echo(json.dumps({"version": OUTPUT_VERSION, "store": place.url, "followers": told}, indent=2))
        return EXIT_OK
    from kcl_receiver.status.live import for_people  # noqa: PLC0415 - the same
    from kcl_receiver.views.terminal import table  # noqa: PLC0415 - the same

    now = time.time()
    rows = [
        {
            "follower": one.name,
            "confirmed": f"{for_people(max(0.0, now - one.confirmed / 1000))} ago" if one.token else "nothing yet",
            "host": one.host,
            "since": shown_time(one.registered),
        }
        for one in found
    ]
    click.echo("\n".join(table(rows, list(rows[0]))) if rows else "nobody follows this store under a name")
    return EXIT_OK


@followers.command()
@click.argument("name")
@store_option
@properties_or_other_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, store: str | None, properties: str | None, *, yes: bool) -> int:
    """Forget a follower that is gone for good: `expire` waits for it no longer.

    If it comes back, it is known again from then on, and learns of what was removed meanwhile as removed.

    Exit code 0; 2 wrong options, or nobody said yes; 4 the store, also if it knows no such follower.
    """
    from kcl_receiver.store.ledger.followers import check_name, remove_follower  # noqa: PLC0415 - as above

    place = open_store(store_of(store, properties))
    place.require()
    check_name(name)
    if not yes:
        question = f"Forget {name}? What it has not taken in may be removed then."
        require_yes(question, "nothing was changed", "--yes to forget it")
    remove_follower(place, name)
    click.echo(f"Forgotten: {name}. `expire` waits for it no longer.")
    return EXIT_OK
