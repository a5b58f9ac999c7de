"""The keys of the properties file that KCL 3.1 understands, each with the kind of value that it takes.

The daemon drops a key that it does not know, and turns a number that it cannot read into 0, without a word
(commons-beanutils with its default converters). So a misspelt `shutdownGraceMilis`, or `20s` for a number, silently
costs the promise that hangs on it. This table lets us say so before anything runs. It is taken from
MultiLangDaemonConfiguration and the beans it delegates to; a test compares it with the setters in the jar.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import Enum


class Kind(Enum):
    """What a value must look like; the text is what an error message says."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    DURATION = "an ISO-8601 duration such as PT15M"
    TAGS = "key1=value1,key2=value2"
    LIST = "names with commas between them"
    POSITION = "TRIM_HORIZON or LATEST"
    RETRIEVAL = "POLLING, FANOUT or DEFAULT"
    METRICS = "NONE, SUMMARY or DETAILED"
    BILLING = "PAY_PER_REQUEST or PROVISIONED"
    VERSION = "CLIENT_VERSION_CONFIG_3X or CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X"
    URL = "a URL such as https://host:port"
    UNUSABLE = "not settable in a properties file, although KCL has a field of this name"


_CHOICES = {
    kind: frozenset(re.findall(r"[A-Z_0-9]{4,}", kind.value))
    for kind in (Kind.POSITION, Kind.RETRIEVAL, Kind.METRICS, Kind.BILLING, Kind.VERSION)
}

DAEMON_KEYS: dict[str, Kind] = {
    # MultiLangDaemonConfig
    "executableName": Kind.TEXT,
    "processingLanguage": Kind.TEXT,
    "maxActiveThreads": Kind.WHOLE,
    # MultiLangDaemonConfiguration
    "applicationName": Kind.TEXT,
    "streamName": Kind.TEXT,
    "streamArn": Kind.TEXT,
    "tableName": Kind.TEXT,
    "workerId": Kind.TEXT,
    "workerIdentifier": Kind.TEXT,
    "regionName": Kind.TEXT,
    "kinesisEndpoint": Kind.URL,
    "dynamoDBEndpoint": Kind.URL,
    "failoverTimeMillis": Kind.WHOLE,
    "leaseAssignmentIntervalMillis": Kind.WHOLE,
    "enablePriorityLeaseAssignment": Kind.SWITCH,
    "leaseTableDeletionProtectionEnabled": Kind.SWITCH,
    "leaseTablePitrEnabled": Kind.SWITCH,
    "shardSyncIntervalMillis": Kind.WHOLE,
    "cleanupLeasesUponShardCompletion": Kind.SWITCH,
    "ignoreUnexpectedChildShards": Kind.SWITCH,
    "maxLeasesForWorker": Kind.WHOLE,
    "maxLeasesToStealAtOneTime": Kind.WHOLE,
    "initialLeaseTableReadCapacity": Kind.WHOLE,
    "initialLeaseTableWriteCapacity": Kind.WHOLE,
    "initialPositionInStream": Kind.POSITION,
    "initialPositionInStreamExtended": Kind.WHOLE,
    "maxLeaseRenewalThreads": Kind.WHOLE,
    "listShardsBackoffTimeInMillis": Kind.WHOLE,
    "maxListShardsRetryAttempts": Kind.WHOLE,
    "callProcessRecordsEvenForEmptyRecordList": Kind.SWITCH,
    "parentShardPollIntervalMillis": Kind.WHOLE,
    "shardPrioritization": Kind.UNUSABLE,
    "skipShardSyncAtWorkerInitializationIfLeasesExist": Kind.SWITCH,
    "schedulerInitializationBackoffTimeMillis": Kind.WHOLE,
    "clientVersionConfig": Kind.VERSION,
    "taskBackoffTimeMillis": Kind.WHOLE,
    "metricsBufferTimeMillis": Kind.WHOLE,
    "metricsMaxQueueSize": Kind.WHOLE,
    "metricsLevel": Kind.METRICS,
    "metricsEnabledDimensions": Kind.LIST,
    "logWarningForTaskAfterMillis": Kind.WHOLE,
    "retrievalMode": Kind.RETRIEVAL,
    "validateSequenceNumberBeforeCheckpointing": Kind.SWITCH,
    "shutdownGraceMillis": Kind.WHOLE,
    "timeoutInSeconds": Kind.WHOLE,
    "awsCredentialsProvider": Kind.TEXT,
    "awsCredentialsProviderDynamoDB": Kind.TEXT,
    "awsCredentialsProviderCloudWatch": Kind.TEXT,
    # PollingConfigBean
    "retryGetRecordsInSeconds": Kind.WHOLE,
    "maxGetRecordsThreadPool": Kind.WHOLE,
    "idleTimeBetweenReadsInMillis": Kind.WHOLE,
    "millisBehindLatestThresholdForReducedTps": Kind.WHOLE,
    "maxRecords": Kind.WHOLE,
    # GracefulLeaseHandoffConfigBean
    "gracefulLeaseHandoffTimeoutMillis": Kind.WHOLE,
    "isGracefulLeaseHandoffEnabled": Kind.SWITCH,
    # WorkerUtilizationAwareAssignmentConfigBean
    "inMemoryWorkerMetricsCaptureFrequencyMillis": Kind.WHOLE,
    "workerMetricsReporterFreqInMillis": Kind.WHOLE,
    "noOfPersistedMetricsPerWorkerMetrics": Kind.WHOLE,
    "disableWorkerMetrics": Kind.SWITCH,
    "maxThroughputPerHostKBps": Kind.NUMBER,
    "dampeningPercentage": Kind.WHOLE,
    "reBalanceThresholdPercentage": Kind.WHOLE,
    "allowThroughputOvershoot": Kind.SWITCH,
    "varianceBalancingFrequency": Kind.WHOLE,
    "workerMetricsEMAAlpha": Kind.NUMBER,
    "staleWorkerMetricsEntryCleanupDuration": Kind.DURATION,
    # WorkerMetricStatsTableConfigBean
    "workerMetricsTableName": Kind.TEXT,
    "workerMetricsBillingMode": Kind.BILLING,
    "workerMetricsReadCapacity": Kind.WHOLE,
    "workerMetricsWriteCapacity": Kind.WHOLE,
    "workerMetricsPointInTimeRecoveryEnabled": Kind.SWITCH,
    "workerMetricsDeletionProtectionEnabled": Kind.SWITCH,
    "workerMetricsTags": Kind.TAGS,
    # CoordinatorStateTableConfigBean
    "coordinatorStateTableName": Kind.TEXT,
    "coordinatorStateBillingMode": Kind.BILLING,
    "coordinatorStateReadCapacity": Kind.WHOLE,
    "coordinatorStateWriteCapacity": Kind.WHOLE,
    "coordinatorStatePointInTimeRecoveryEnabled": Kind.SWITCH,
    "coordinatorStateDeletionProtectionEnabled": Kind.SWITCH,
    "coordinatorStateTags": Kind.TAGS,
}

FANOUT_KEYS: dict[str, Kind] = {
    "maxDescribeStreamSummaryRetries": Kind.WHOLE,
    "consumerArn": Kind.TEXT,
    "consumerName": Kind.TEXT,
    "maxDescribeStreamConsumerRetries": Kind.WHOLE,
    "registerStreamConsumerRetries": Kind.WHOLE,
    "retryBackoffMillis": Kind.WHOLE,
}
"""FanoutConfigBean's, written `fanoutConfig.consumerName`: a bean that the configuration does not delegate to."""

NESTED = (
    "fanoutConfig.",
    "pollingConfig.",
    "kinesisCredentialsProvider.",
    "dynamoDBCredentialsProvider.",
    "cloudWatchCredentialsProvider.",
    "kinesisClient.",
    "dynamoDbClient.",
    "cloudWatchClient.",
)
"""Beginnings of keys that reach into KCL's own objects. What follows depends on Java classes and is not checked, but
for `fanoutConfig.`."""

CREDENTIALS_KEY = "awscredentialsprovider"
"""The daemon takes keys that begin with this in any case (KinesisClientLibConfigurator.processKey)."""

_SECRET = re.compile(r"(?i)(access_?key|secret|password|session_?token)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}\Z")
_DURATION = re.compile(
    r"(?i)[+-]?P(?=.)(?:[+-]?\d+D)?(?:T(?=.)(?:[+-]?\d+H)?(?:[+-]?\d+M)?(?:[+-]?\d+(?:\.\d+)?S)?)?\Z"
)
_SWITCHES = {
    **dict.fromkeys(("true", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "no", "n", "off", "0"), False),
}


def canonical(key: str) -> str:
    """Return the key as the daemon looks it up: `AWSCredentialsProvider…` in any case is one key."""
    if key.lower().startswith(CREDENTIALS_KEY):
        return "awsCredentialsProvider" + key[len(CREDENTIALS_KEY) :]
    return key


def kind_of(key: str) -> Kind | None:
    """Return the kind of value that a key of KCL takes, or None if KCL has no such key."""
    name = canonical(key)
    if name in DAEMON_KEYS:
        return DAEMON_KEYS[name]
    if name.startswith("fanoutConfig."):
        return FANOUT_KEYS.get(name.partition(".")[2])
    return Kind.TEXT if name.startswith(NESTED) else None


def nearest(key: str, names: Iterable[str]) -> str | None:
    """Return the name that a misspelt key most likely means, or None if none is close."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[close[0]] if close else None


def nearest_daemon_key(key: str) -> str | None:
    """Return the key of KCL that a misspelt one most likely means."""
    return nearest(key, [*DAEMON_KEYS, *(f"fanoutConfig.{name}" for name in FANOUT_KEYS)])


def looks_secret(key: str) -> bool:
    """Tell whether a key seems to hold a secret itself, which has no place in this file: the daemon logs all of it."""
    return _SECRET.search(key) is not None


def acceptable(kind: Kind, value: str) -> bool:
    """Tell whether KCL reads the value as what it says, instead of dropping it or falling back to 0."""
    if kind is Kind.WHOLE:
        return _WHOLE.match(value.strip()) is not None
    if kind is Kind.NUMBER:
        return re.match(r"[+-]?(\d+\.?\d*|\.\d+)\Z", value.strip()) is not None
    if kind is Kind.SWITCH:
        return value.strip().lower() in _SWITCHES
    if kind is Kind.DURATION:
        return _DURATION.match(value.strip()) is not None
    if kind is Kind.TAGS:
        return all(len(pair.split("=")) == 2 for pair in value.split(","))
    if kind in _CHOICES:
        # The daemon does not trim these: a blank at the end of the line is an error there too.
        return value.upper() in _CHOICES[kind]
    if kind is Kind.URL:
        return re.match(r"https?://[^\s/]+", value) is not None
    return kind is not Kind.UNUSABLE


def switch(value: str) -> bool:
    """Return a boolean as commons-beanutils reads it; anything that is not true is false."""
    return _SWITCHES.get(value.strip().lower(), False)
