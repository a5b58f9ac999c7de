"""The lease table: watched all the time, and changed as KCL's leader changes it.

Two ways to move a lease, after DynamoDBLeaseRefresher of KCL 3.1.3. Orderly (`initiateGracefulLeaseHandoff`):
leaseOwner names the new owner and checkpointOwner the old one, who shuts its processor down and then hands over.
Forced (`assignLease`): leaseOwner names the new owner, and leaseCounter rises by one, at which the old owner's next
write fails.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from faults.broken import Broken

LOOK_SECONDS = 0.2

Place = tuple[int, int]
"""Sequence number and sub-sequence number."""


@dataclass(frozen=True)
class Row:
    """One lease. `checkpoint` is a place or KCL's word."""

    shard: str
    checkpoint: Place | str
    owner: str | None
    checkpoint_owner: str | None

    @property
    def ended(self) -> bool:
        """Whether it is at SHARD_END."""
        return self.checkpoint == "SHARD_END"

    def reaches(self, place: Place) -> bool:
        """Return whether the checkpoint is at a place or past it."""
        return self.ended or (isinstance(self.checkpoint, tuple) and self.checkpoint >= place)


def read_rows(dynamodb: Any, table: str) -> dict[str, Row]:  # noqa: ANN401 - boto3
    """Return the lease table by shard."""
    rows: dict[str, Row] = {}
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            text = item["checkpoint"]["S"]
            sub = int(item.get("checkpointSubSequenceNumber", {}).get("N", "0"))
            shard = item["leaseKey"]["S"]
            rows[shard] = Row(
                shard,
                (int(text), sub) if text.isdigit() else text,
                item.get("leaseOwner", {}).get("S"),
                item.get("checkpointOwner", {}).get("S"),
            )
    return rows


@dataclass
class History:
    """What is learnt by looking at the table again and again.

    Attributes:
        rows: The table as it was last seen.
        ended: Shards that were seen at SHARD_END. KCL deletes such a lease some time after its children have begun.
        forced: Shards whose owner changed in any other way than by an orderly move that is on `orderly`.
        orderly: Shard and new owner of the orderly moves that were asked for and not seen yet.
        fallen: Checkpoints that went back, in words: no checkpoint ever may.
        moves: How often an owner changed.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    orderly: set[tuple[str, str]] = field(default_factory=set)
    fallen: list[str] = field(default_factory=list)
    moves: int = 0

    def see(self, rows: dict[str, Row]) -> None:
        """Note what the table is now."""
        for shard, row in rows.items():
            before = self.rows.get(shard)
            if before is None:
                continue
            if (isinstance(before.checkpoint, tuple) and not row.reaches(before.checkpoint)) or (
                before.ended and not row.ended
            ):
                self.fallen.append(f"the checkpoint of {shard} went back from {before.checkpoint} to {row.checkpoint}")
            if before.owner is not None and row.owner is not None and before.owner != row.owner:
                self.moves += 1
                if (shard, row.owner) in self.orderly:
                    self.orderly.discard((shard, row.owner))
                else:
                    self.forced.add(shard)
        self.ended.update(shard for shard, row in rows.items() if row.ended)
        self.rows = rows


class Watch:
    """Looks at the table until it is stopped; an AWS that is away is waited for.

    Args:
        dynamodb: boto3 client.
        table: Name of the lease table.
    """

    def __init__(self, dynamodb: Any, table: str) -> None:  # noqa: ANN401 - boto3
        self._dynamodb = dynamodb
        self._table = table
        self._history = History()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def abandon(self) -> None:
        """End, whatever happened."""
        self._stop.set()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except (BotoCoreError, ClientError):
                continue  # AWS is away
            except Exception as error:  # noqa: BLE001 - told by `check`, in the main thread
                self._failure = error
                return

    def look(self) -> dict[str, Row]:
        """Look now."""
        with self._lock:
            rows = read_rows(self._dynamodb, self._table)
            self._history.see(rows)
            return rows

    def check(self) -> None:
        """See that all that was seen may be.

        Raises:
            Broken: A checkpoint went back.
        """
        if self._failure is not None:
            raise RuntimeError("the watch over the lease table failed") from self._failure
        with self._lock:
            if self._history.fallen:
                raise Broken("; ".join(self._history.fallen))

    @property
    def ended(self) -> set[str]:
        """Shards that were seen at SHARD_END."""
        with self._lock:
            return set(self._history.ended)

    @property
    def forced(self) -> set[str]:
        """Shards that were taken from an owner who may have been writing."""
        with self._lock:
            return set(self._history.forced)

    @property
    def moves(self) -> int:
        """How often an owner was seen to change."""
        with self._lock:
            return self._history.moves

    def reached(self, goal: dict[str, Place]) -> bool:
        """Return whether every shard's checkpoint is where the goal says, as last seen."""
        with self._lock:
            rows, ended = self._history.rows, self._history.ended
            return all(
                shard in ended or (shard in rows and rows[shard].reaches(place)) for shard, place in goal.items()
            )

    # ------------------------------------------------------------------ moves

    def move_orderly(self, shard: str, old: str, new: str) -> bool:
        """Ask the old owner to hand over, as KCL's leader does; return False if the lease is not as expected."""
        with self._lock:
            self._history.orderly.add((shard, new))
        return self._update(
            shard,
            "SET leaseOwner = :new, checkpointOwner = :old",
            "leaseOwner = :old AND attribute_not_exists(checkpointOwner)",
            {":new": {"S": new}, ":old": {"S": old}},
        )

    def move_forced(self, shard: str, old: str, new: str) -> bool:
        """Take a lease from its owner, as KCL's leader does; return False if the lease is not as expected."""
        with self._lock:
            # Noted here too: a change back and forth between two looks would not be seen.
            self._history.forced.add(shard)
        return self._update(
            shard,
            "SET leaseOwner = :new REMOVE checkpointOwner ADD leaseCounter :one, ownerSwitchesSinceCheckpoint :one",
            "leaseOwner = :old",
            {":new": {"S": new}, ":old": {"S": old}, ":one": {"N": "1"}},
        )

    def _update(self, shard: str, change: str, condition: str, values: dict[str, Any]) -> bool:
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"leaseKey": {"S": shard}},
                UpdateExpression=change,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True
