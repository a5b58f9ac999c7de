"""The keys of the properties file that KCL 3.1 understands, each with the kind of value that it takes.

The daemon drops a key that it does not know, and turns a number that it cannot read into 0, without a word
(commons-beanutils with its default converters). So a misspelt `shutdownGraceMilis`, or `20s` for a number, silently
costs the promise that hangs on it. This table lets us say so before anything runs. It is taken from
MultiLangDaemonConfiguration and the beans it delegates to; a test compares it with the setters in the jar.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kcl_receiver.config import credentials, kcl_values
from kcl_receiver.config.credentials import canonical
from kcl_receiver.config.kcl_values import Kind, java_trim, line

LAST_SECOND = 253_402_300_799
"""The end of the year 9999: later than that, a number of seconds is one of milliseconds."""


class Key(NamedTuple):
    """What is known of one key.

    Attributes:
        kind: What a value must look like, and how KCL reads it.
        example: KCL's own default, or a value that works: what a hint proposes.
        least: The smallest number with which KCL works.
        most: The largest one.
        unset: The value that KCL takes for "not set", and so for its default (ConfigurationSettableUtils); None where
            every value is taken as it is.
    """

    kind: Kind
    example: str
    least: float | None = None
    most: float | None = None
    unset: str | None = None


def _int(default: int, least: int = 0, most: int = (1 << 31) - 1) -> Key:
    return Key(Kind.INT, str(default), least, most, "0" if default else None)


def _long(default: int, least: int = 0) -> Key:
    return Key(Kind.LONG, str(default), least, None, "0" if default else None)


def _whole(kind: Kind, example: int, least: int = 0) -> Key:
    """Return a key whose 0 is 0: an Integer or Long in Java, or one that KCL does not pass on."""
    return Key(kind, str(example), least)


def _switch(default: bool, unset: str | None = None) -> Key:
    return Key(Kind.SWITCH, str(default).lower(), unset=unset)


def _text(example: str) -> Key:
    return Key(Kind.TEXT, example)


_ANY = Key(Kind.NESTED, "")

_TAGS = Key(Kind.TAGS, "key1=value1,key2=value2")
_BILLING = Key(Kind.BILLING, "PAY_PER_REQUEST")
_PROVIDER = Key(Kind.CREDENTIALS, "DefaultCredentialsProvider")

DAEMON_KEYS: dict[str, Key] = {
    # MultiLangDaemonConfig
    "executableName": _text("kcl-receiver-processor --properties FILE"),
    "processingLanguage": _text("python"),
    "maxActiveThreads": Key(Kind.POOL, "0"),
    # MultiLangDaemonConfiguration
    "applicationName": _text("my-application"),
    "streamName": _text("my-stream"),
    "streamArn": _text("arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"),
    "tableName": _text("my-application"),
    "workerId": _text(""),  # better none: see checks.worker_id
    "workerIdentifier": _text(""),
    "regionName": Key(Kind.REGION, "eu-west-1"),
    "kinesisEndpoint": Key(Kind.URL, "https://kinesis.eu-west-1.amazonaws.com"),
    "dynamoDBEndpoint": Key(Kind.URL, "https://dynamodb.eu-west-1.amazonaws.com"),
    "failoverTimeMillis": _long(10_000),
    "leaseAssignmentIntervalMillis": _long(20_000),
    "enablePriorityLeaseAssignment": _switch(True),
    "leaseTableDeletionProtectionEnabled": _switch(False),
    "leaseTablePitrEnabled": _switch(False),
    "shardSyncIntervalMillis": _long(60_000),
    "cleanupLeasesUponShardCompletion": _switch(True, unset="false"),
    "ignoreUnexpectedChildShards": _switch(False),
    "maxLeasesForWorker": _int((1 << 31) - 1),
    "maxLeasesToStealAtOneTime": _int(1),
    "initialLeaseTableReadCapacity": _int(10),
    "initialLeaseTableWriteCapacity": _int(10),
    "initialPositionInStream": Key(Kind.POSITION, "TRIM_HORIZON"),
    "initialPositionInStreamExtended": Key(Kind.SECONDS, "1767225600", 0, LAST_SECOND),
    # Two threads are always there, and a pool cannot be made that may have fewer (DynamoDBLeaseCoordinator).
    "maxLeaseRenewalThreads": _int(20, least=2),
    "listShardsBackoffTimeInMillis": _long(1500),
    "maxListShardsRetryAttempts": _int(50),
    "callProcessRecordsEvenForEmptyRecordList": _switch(True),
    "parentShardPollIntervalMillis": _long(10_000),
    "shardPrioritization": Key(Kind.UNUSABLE, ""),
    "skipShardSyncAtWorkerInitializationIfLeasesExist": _switch(False),
    "schedulerInitializationBackoffTimeMillis": _long(1000),
    "clientVersionConfig": Key(Kind.VERSION, "CLIENT_VERSION_CONFIG_3X"),
    "taskBackoffTimeMillis": _long(500),
    "metricsBufferTimeMillis": _long(10_000),
    "metricsMaxQueueSize": _int(10_000),
    "metricsLevel": Key(Kind.METRICS, "DETAILED"),
    "metricsEnabledDimensions": Key(Kind.LIST, "ALL"),
    "logWarningForTaskAfterMillis": _whole(Kind.LONG, 60_000),
    "retrievalMode": Key(Kind.RETRIEVAL, "POLLING"),
    "validateSequenceNumberBeforeCheckpointing": _switch(False),
    "shutdownGraceMillis": _whole(Kind.LONG, 30_000),
    "timeoutInSeconds": _whole(Kind.INT, 600, least=1),
    "awsCredentialsProvider": _PROVIDER,
    "awsCredentialsProviderDynamoDB": _PROVIDER,
    "awsCredentialsProviderCloudWatch": _PROVIDER,
    # PollingConfigBean
    "retryGetRecordsInSeconds": _whole(Kind.INT, 1),
    "maxGetRecordsThreadPool": _whole(Kind.INT, 1, least=1),
    "idleTimeBetweenReadsInMillis": _long(1500),
    "millisBehindLatestThresholdForReducedTps": _long(0),
    "maxRecords": _int(10_000, most=10_000),
    # GracefulLeaseHandoffConfigBean
    "gracefulLeaseHandoffTimeoutMillis": _whole(Kind.LONG, 30_000),
    "isGracefulLeaseHandoffEnabled": _switch(True),
    # WorkerUtilizationAwareAssignmentConfigBean
    "inMemoryWorkerMetricsCaptureFrequencyMillis": _long(1000),
    "workerMetricsReporterFreqInMillis": _long(30_000),
    "noOfPersistedMetricsPerWorkerMetrics": _int(10),
    "disableWorkerMetrics": _switch(False),
    "maxThroughputPerHostKBps": Key(Kind.NUMBER, "100000", 0, unset="0"),
    "dampeningPercentage": _int(60, most=100),
    "reBalanceThresholdPercentage": _int(10),
    "allowThroughputOvershoot": _switch(True),
    "varianceBalancingFrequency": _int(3),
    "workerMetricsEMAAlpha": Key(Kind.NUMBER, "0.5", 0, 1, "0"),
    "staleWorkerMetricsEntryCleanupDuration": Key(Kind.DURATION, "P1D"),
    # WorkerMetricStatsTableConfigBean
    "workerMetricsTableName": _text("my-application-WorkerMetricStats"),
    "workerMetricsBillingMode": _BILLING,
    "workerMetricsReadCapacity": _long(0),
    "workerMetricsWriteCapacity": _long(0),
    "workerMetricsPointInTimeRecoveryEnabled": _switch(False),
    "workerMetricsDeletionProtectionEnabled": _switch(False),
    "workerMetricsTags": _TAGS,
    # CoordinatorStateTableConfigBean
    "coordinatorStateTableName": _text("my-application-CoordinatorState"),
    "coordinatorStateBillingMode": _BILLING,
    "coordinatorStateReadCapacity": _long(0),
    "coordinatorStateWriteCapacity": _long(0),
    "coordinatorStatePointInTimeRecoveryEnabled": _switch(False),
    "coordinatorStateDeletionProtectionEnabled": _switch(False),
    "coordinatorStateTags": _TAGS,
    # FanoutConfigBean, a bean that the configuration does not delegate to
    "fanoutConfig.maxDescribeStreamSummaryRetries": _int(10),
    "fanoutConfig.consumerArn": _text("arn:aws:kinesis:REGION:ACCOUNT:stream/NAME/consumer/NAME:1"),
    "fanoutConfig.consumerName": _text("my-application"),
    "fanoutConfig.maxDescribeStreamConsumerRetries": _int(10),
    "fanoutConfig.registerStreamConsumerRetries": _int(10),
    "fanoutConfig.retryBackoffMillis": _long(1000),
}

DAEMON_KEYS |= {
    # KCL's own objects, as far as they say what keys of the table above say
    f"{client}.{name}": key
    for client in ("kinesisClient", "dynamoDbClient", "cloudWatchClient")
    for name, key in (("region", DAEMON_KEYS["regionName"]), ("endpointOverride", DAEMON_KEYS["kinesisEndpoint"]))
}

EMPTY_IS_UNSET = frozenset({"streamArn", "tableName", "processingLanguage"})
"""Keys for which an empty value does what leaving them out does."""

BEANS = (
    "pollingConfig.",
    "gracefulLeaseHandoffConfigBean.",
    "workerUtilizationAwareAssignmentConfigBean.",
    "workerMetricStatsTableConfigBean.",
    "coordinatorStateTableConfigBean.",
)
"""Beginnings of second names that KCL has for keys of its own; they are refused, so that a key has one name."""

NESTED = (
    "kinesisCredentialsProvider.",
    "dynamoDBCredentialsProvider.",
    "cloudWatchCredentialsProvider.",
    "kinesisClient.",
    "dynamoDbClient.",
    "cloudWatchClient.",
)
"""Beginnings of keys that reach into KCL's own objects. What follows depends on Java classes and is not checked."""

_SECRET = re.compile(r"(?i)(access_?key|secret|password|session_?token)")


def find(key: str) -> Key | None:
    """Return what is known of a key of KCL, or None if KCL has no such key."""
    return DAEMON_KEYS.get(canonical(key)) or (_ANY if key.startswith(NESTED) else None)


def nearest(key: str, names: Iterable[str]) -> str | None:
    """Return the name that a misspelt key most likely means, or None if none is close."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[close[0]] if close else None


def nearest_daemon_key(key: str) -> str | None:
    """Return the key of KCL that a misspelt one most likely means."""
    bean = next((bean for bean in BEANS if key.startswith(bean)), "")
    return nearest(key[len(bean) :], DAEMON_KEYS)


def looks_secret(key: str) -> bool:
    """Tell whether a key seems to hold a secret itself, which has no place in this file: the daemon logs all of it."""
    return _SECRET.search(key) is not None


def value(raw: Mapping[str, str], key: str) -> Any:  # noqa: ANN401 - of the key's type
    """Return the value of a key of KCL; None if it is not set, means the same as that, or is refused by `wrong`."""
    text = raw.get(key)
    if text is None or wrong(key, text) is not None or ignored(key, text) or not text:
        return None
    return kcl_values.read(DAEMON_KEYS[key].kind, text)


def wrong(key: str, text: str) -> tuple[str, str] | None:
    """Return why a value of a key of KCL is refused, and the line to write instead; None if KCL reads what is written.

    The reason continues the sentence "KEY = VALUE: …".
    """
    about = find(key)
    if about is None or (not text and canonical(key) in EMPTY_IS_UNSET):
        return None
    if about.kind is Kind.UNUSABLE:
        return f"is not {about.kind.value}", "leave it out"
    if about.kind is Kind.POSITION and text.strip().upper() == "AT_TIMESTAMP":
        other = "initialPositionInStreamExtended"
        return "KCL takes AT_TIMESTAMP by another key", f"{other} = {DAEMON_KEYS[other].example}"
    try:
        read: Any = credentials.parse(text) if about.kind is Kind.CREDENTIALS else kcl_values.read(about.kind, text)
    except ValueError as error:
        return str(error) if text else f"has no value: it {error}", instead(key, text)
    if not text:
        return "has no value", instead(key, text)
    if about.least is not None and read < about.least:
        return f"must be {about.least:g} or more, and KCL does not look whether it is", instead(key, text)
    if about.most is not None and read > about.most:
        if about.kind is Kind.SECONDS:
            return "counts milliseconds, and KCL takes seconds since the epoch", f"{key} = {read // 1000}"
        return f"must be {about.most:g} or less", instead(key, text)
    return None


def instead(key: str, text: str) -> str:
    """Return the line to write instead of one whose value is refused."""
    about = find(key) or _ANY
    trimmed = java_trim(text)
    if about.example and trimmed and trimmed != text and wrong(key, trimmed) is None:
        return line(key, trimmed)
    if about.kind is Kind.CREDENTIALS:
        return line(key, credentials.instead(text))
    if not about.example:
        return "leave it out"
    return f"{key} = {about.example}"


def ignored(key: str, text: str) -> str:
    """Return the value that KCL takes instead of one that means "not set" to it; empty where it takes it as it is."""
    about = find(key)
    if about is None or about.unset is None or not text or wrong(key, text) is not None:
        return ""
    same = kcl_values.read(about.kind, text) == kcl_values.read(about.kind, about.unset)
    return about.example if same else ""
