"""LATEST: the time from which it reads is fixed once for all hosts, by the receiver's own code, on a DynamoDB of dicts.

Hosts are replaced meanwhile by others that have an empty store, as in a fleet that is scaled.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from kcl_receiver.daemon import start
from kcl_receiver.errors import StreamUnavailable

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

TABLE = "landing"
BEFORE_MS = 3_600_000
"""So long before the first start some records had come."""


class _ConditionError(Exception):
    """ConditionalCheckFailedException."""


class _InUseError(Exception):
    """ResourceInUseException."""


class SimDynamo:
    """The few calls that fix the time need; the answer to a write may be lost."""

    exceptions = SimpleNamespace(ConditionalCheckFailedException=_ConditionError, ResourceInUseException=_InUseError)

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._items: dict[str, dict[str, Any]] | None = None

    def get_item(self, *, Key: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401, N803 - boto3's name
        self._answer("GetItem")
        if self._items is None:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no such table"}}, "GetItem")
        item = self._items.get(Key["key"]["S"])
        return {**({} if item is None else {"Item": item}), **self._fleet.stream.metadata()}

    def put_item(self, *, Item: dict[str, Any], **_: Any) -> None:  # noqa: ANN401, N803 - boto3's name
        self._answer("PutItem")
        assert self._items is not None
        if Item["key"]["S"] in self._items:
            raise _ConditionError
        self._items[Item["key"]["S"]] = Item
        if self._fleet.more.random() < 0.2:
            self._answer("PutItem", lost=True)

    def create_table(self, **_: Any) -> None:  # noqa: ANN401
        self._answer("CreateTable")
        if self._items is not None:
            raise _InUseError
        self._items = {}

    def get_waiter(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(wait=lambda **_: None)

    def scan(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("Scan")
        rows = self._fleet.leases.rows.values()
        return {"Items": [{"leaseKey": {"S": row.shard}, "checkpoint": {"S": str(row.checkpoint)}} for row in rows]}

    def _answer(self, operation: str, *, lost: bool = False) -> None:
        if lost or self._fleet.timeline.now < self._fleet.stream.unavailable_until:
            raise ClientError({"Error": {"Code": "InternalServerError", "Message": "try again"}}, operation)


def start_millis(fleet: Fleet, host: Host) -> int | None:
    """Return the time that `run` puts into the daemon's properties; None if it cannot be told now."""
    config: Any = SimpleNamespace(table_name=TABLE)
    try:
        return start.pin(fleet.dynamo, config, host.wall_millis())
    except StreamUnavailable:
        return None


def put_before(fleet: Fleet) -> None:
    """Put some records that LATEST leaves out."""
    for shard in fleet.stream.open_shards():
        for _ in range(fleet.more.randint(0, 6)):
            fleet.stream.put(shard, fleet.more.choice((1, 3)), BEFORE_MS)
        shard.before_start = len(shard.positions)


def _host_replaced(fleet: Fleet, host: Host, _: float) -> bool:
    """A host goes for good; what is on its disk stays readable. Another one comes, whose store is empty."""
    if len(fleet.hosts) > 5:
        return False
    fleet.replace(host)
    return True


KINDS = {"host replaced, store empty": _host_replaced}
