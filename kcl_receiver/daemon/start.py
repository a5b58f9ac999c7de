"""Where an application with LATEST begins: a time that is fixed once, beside the leases, for all of its hosts.

Until its first checkpoint a lease says no more than AT_TIMESTAMP, and KCL takes the time out of the properties of the
host that starts the shard. So the time is a fact of the application, like the leases, and not of a host or a store: a
host that comes later, with an empty store, must read from the same moment. It is one item in a table of our own, since
KCL makes its own tables at its first start with settings of the user's (billing, tags, recovery), and the item has to
be there before that. It is made only if it is absent, and never changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from kcl_receiver import aws
from kcl_receiver.aws import Lease
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.errors import ConfigError, ReceiverError

TABLE_SUFFIX = "-ReceiverState"
"""Behind the name of the lease table, as KCL names its own."""
KEY = "key"
START = "start"
"""Key of the item."""
_MILLIS = "fromMillis"

LONGEST_RETENTION_MILLIS = 365 * 86_400_000
"""That of Kinesis."""


def table_of(config: ReceiverConfig) -> str:
    """Return the name of the table."""
    return config.table_name + TABLE_SUFFIX


def pinned(dynamodb: Any, table: str) -> int | None:  # noqa: ANN401 - boto3 has no types
    """Return the time from which LATEST reads, in milliseconds since the epoch; None if it is not fixed yet.

    Raises:
        StreamUnavailable: The table cannot be read now, or may not be.
        ConfigError: The item is not ours.
    """
    item, _ = aws.read_item(dynamodb, table, KEY, START)
    return None if item is None else _millis(item, table)


def pin(dynamodb: Any, config: ReceiverConfig, now_millis: int) -> int:  # noqa: ANN401 - boto3 has no types
    """Return the time from which LATEST reads, in milliseconds since the epoch: that of the very first start.

    Where leases are there already, and the time is not, it is a time before all records: a shard that has no lease yet
    must not begin now, after others were read for long.

    Whole seconds, because KCL's key counts them; rounded down, so that nothing is left out. The service's clock is
    taken where it is behind this host's: Kinesis refuses to begin in the future, and records until then were left out.

    Raises:
        StreamUnavailable: The table cannot be read or written now, or may not be.
        ConfigError: The item is not ours, or leases exist that began at a time which is not known.
    """
    table = table_of(config)
    item, _ = aws.read_item(dynamodb, table, KEY, START)
    if item is None:
        leases = aws.read_leases(dynamodb, config.table_name) or ()
        # Once more: another host may have begun in between, and then the leases are of its time.
        item, service_millis = aws.read_item(dynamodb, table, KEY, START)
        if item is not None:
            return _millis(item, table)
        unknown = undecided(leases, None, config)
        if unknown is not None:
            raise unknown
        aws.make_table(dynamodb, table, KEY)
        first = min(now_millis, now_millis if service_millis is None else service_millis) // 1000 * 1000
        if leases:
            # It was read before, so a shard without a lease is a child: KCL's own LATEST reads it from its beginning.
            first = max(0, first - LONGEST_RETENTION_MILLIS)
        item = aws.put_item_if_absent(dynamodb, table, KEY, {KEY: {"S": START}, _MILLIS: {"N": str(first)}})
    return _millis(item, table)


def undecided(leases: Iterable[Lease], start_millis: int | None, config: ReceiverConfig) -> ReceiverError | None:
    """Return an error if leases have begun at a time, and none is fixed: a new one would leave records out."""
    begun = [lease.shard for lease in leases if lease.checkpoint == "AT_TIMESTAMP"]
    if start_millis is not None or not begun:
        return None
    return ConfigError(
        f"{begun[0]} began at a time and has no checkpoint, and table {table_of(config)}, which holds the time for "
        "LATEST, does not: beginning now would leave out all that came since",
        "instead of LATEST, write the time from which on it was to be read, in seconds since the epoch, such as: "
        "initialPositionInStreamExtended = 1767225600",
    )


def said(millis: int) -> str:
    """Return a time as messages show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(millis / 1000))


def _millis(item: dict[str, Any], table: str) -> int:
    try:
        millis = int(item[_MILLIS]["N"])
        if millis < 0:
            raise ValueError(f"{_MILLIS} is {millis}")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"item {START!r} of table {table} does not say a time: {error}",
            f"restore it ({_MILLIS}, milliseconds since the epoch), or replace LATEST by a time of your own: "
            "initialPositionInStreamExtended = SECONDS",
        ) from error
    return millis
