"""Lets KCL start in seconds instead of minutes on the emulator: settings, and leases made beforehand.

Where a start of KCL 3.1.3 spends its time (read in its source, and measured):

- 1 to 30 s at random on an empty lease table (`Scheduler.shouldInitiateLeaseSync`), so that a fleet's first start does
  not list the shards all at once. No setting changes it; a table that holds one lease does.
- `shardSyncIntervalMillis` (60 s) after the first leases are made: `ShardSyncTask` sleeps that long before it returns.
- `leaseAssignmentIntervalMillis` (2 x `failoverTimeMillis`), because the first assignment finds no worker yet, and half
  of it again until the worker sees what it was given. A lease that names this worker as its owner is taken at once.
- 1 s of its main loop, which no setting changes; and 2 s of the JVM.

A stop takes up to `failoverTimeMillis` more than the processors need.
"""

from __future__ import annotations

from typing import Any

from kcl_receiver.emulator.clients import Boto3, every_shard

QUICK_SETTINGS: dict[str, str] = {
    "failoverTimeMillis": "2000",
    "leaseAssignmentIntervalMillis": "500",
    "parentShardPollIntervalMillis": "200",
    "schedulerInitializationBackoffTimeMillis": "200",
    "shardSyncIntervalMillis": "100",
    "taskBackoffTimeMillis": "100",
    "idleTimeBetweenReadsInMillis": "250",
    "metricsLevel": "NONE",
}
"""Lines of a properties file for tests and the demo; no settings for production, where leases would flap."""


def prepare_leases(
    dynamodb: Boto3,
    kinesis: Boto3,
    application: str,
    stream: str,
    *,
    position: str = "TRIM_HORIZON",
    owner: str | None = None,
) -> list[str]:
    """Make the lease table and the first leases as KCL would, and return their shard ids.

    Does nothing if the table is there already. The leases are those that KCL writes at its first start (checkpoint
    `position`, hash range, counters at 0); with an owner they are those of a worker that died right after it got them.

    Args:
        dynamodb: boto3 client for the emulator.
        kinesis: The same for Kinesis.
        application: Name of the KCL application, which is the name of its table.
        stream: Name of the stream.
        position: Word that stands for the checkpoint until there is one: TRIM_HORIZON, LATEST or AT_TIMESTAMP.
        owner: workerId that takes them at once, or None to let KCL assign them.
    """
    try:
        dynamodb.create_table(
            TableName=application,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    except dynamodb.exceptions.ResourceInUseException:
        return []
    kind = "AT_LATEST" if position == "LATEST" else "AT_TRIM_HORIZON"
    made: list[str] = []
    for shard in every_shard(kinesis, stream, kind):
        item: dict[str, Any] = {
            "leaseKey": {"S": shard["ShardId"]},
            "leaseCounter": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "0"},
            "checkpoint": {"S": position},
            "checkpointSubSequenceNumber": {"N": "0"},
            "startingHashKey": {"S": shard["HashKeyRange"]["StartingHashKey"]},
            "endingHashKey": {"S": shard["HashKeyRange"]["EndingHashKey"]},
        }
        parents = [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard]
        if parents:
            item["parentShardId"] = {"SS": parents}
        if owner is not None:
            item["leaseOwner"] = {"S": owner}
        dynamodb.put_item(TableName=application, Item=item)
        made.append(shard["ShardId"])
    return made
