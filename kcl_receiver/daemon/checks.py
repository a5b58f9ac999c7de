"""Judges the settings of a properties file: which would break a promise, and which only surprise.

Pure: a check takes the settings and yields findings; whatever must be looked up on the machine is in `probes`. Each
refused setting states its reason, and the line to write instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from kcl_receiver.config import credentials, kcl_keys
from kcl_receiver.config import properties as properties_file
from kcl_receiver.config.credentials import CLIENTS, Way, canonical
from kcl_receiver.config.kcl_values import line
from kcl_receiver.config.properties import Problem, ReceiverConfig
from kcl_receiver.config.values import STREAM_ARN
from kcl_receiver.daemon.command import instead_of_latest
from kcl_receiver.daemon.executable import executable_name
from kcl_receiver.daemon.findings import ERROR, OK, SETTINGS, WARNING, Finding

LEAST_DRAIN_MILLIS = 5_000
"""Time that a drain needs: the block is cut at once and made durable (well under a second on a local disk, seconds on a
busy one), the checkpoint goes to DynamoDB, and the daemon's own turns take some 100 ms each."""

ANSWER_MARGIN_MILLIS = 10_000
"""What a processor needs, after its own longest wait, to say why it leaves and to leave."""

SUGGESTED_GRACE_MILLIS = 30_000

LEAST_PAUSE_MILLIS = 200
"""PollingConfig.MIN_IDLE_MILLIS_BETWEEN_READS in KCL 3.1.3."""


def longest_wait_millis(config: ReceiverConfig) -> int:
    """Return how long a processor may be silent and yet be well."""
    return config.generator_timeout_millis + config.store_timeout_millis + ANSWER_MARGIN_MILLIS


def settings_findings(config: ReceiverConfig, problems: list[Problem], now_millis: int | None = None) -> list[Finding]:
    """Return what reading the file has found, and all findings about keys that could be read.

    A line that a finding proposes was tried: where another check would refuse it, what that one proposes is told.
    """
    now = int(time.time() * 1000) if now_millis is None else now_millis
    return [replace(one, instead=_tried(config, one, now)) for one in _findings(config, problems, now)]


def _findings(config: ReceiverConfig, problems: list[Problem], now_millis: int) -> list[Finding]:
    found = problem_findings(problems)
    known = {finding.subject for finding in found}
    return [*found, *(one for one in check_settings(config, now_millis) if one.subject not in known)]


def _tried(config: ReceiverConfig, finding: Finding, now_millis: int) -> str:
    key, equals, text = finding.instead.partition(", or: ")[0].partition(" = ")
    if not equals or finding.severity != ERROR:
        return finding.instead
    (value,) = properties_file.parse(f"{key} = {text}".encode("latin-1")).values()
    after = {one: old for one, old in config.raw.items() if one not in (finding.subject, key)} | {key: value}
    again, problems = properties_file.inspect(config.path, after)
    refused = [] if again is None else _findings(again, problems, now_millis)
    refused = [one for one in refused if one.severity == ERROR and one.subject == key and " = " in one.instead]
    return refused[0].instead if refused else finding.instead


def check_settings(config: ReceiverConfig, now_millis: int | None = None) -> list[Finding]:
    """Return all findings about one file's settings, in the order of the checks below; none if all is well."""
    now = int(time.time() * 1000) if now_millis is None else now_millis
    return [finding for check in CHECKS for finding in check(config)] + list(initial_position(config, now))


def problem_findings(problems: list[Problem]) -> list[Finding]:
    """Return what reading the file has found, in the form of findings."""
    return [
        Finding(SETTINGS, ERROR, key, f"{'is missing' if value is None else repr(value)}: {reason}", instead)
        for key, value, reason, instead in problems
    ]


def unknown_keys(config: ReceiverConfig) -> Iterator[Finding]:
    """The daemon drops keys that it does not know without a word."""
    for key in config.raw:
        nested = key.startswith(kcl_keys.NESTED) and key not in kcl_keys.DAEMON_KEYS
        if nested and not key.startswith(NESTED_CREDENTIALS):  # of those, `identity` says more
            yield _warning(key, "reaches into KCL's own objects, and is not checked: what is wrong ends the daemon", "")
        if key.startswith("receiver.") or kcl_keys.find(key) is not None:
            continue
        brackets = set(key) & set("[]()")
        if kcl_keys.looks_secret(key) and not brackets:
            continue
        near = kcl_keys.nearest_daemon_key(key)
        if near is not None:
            way_out = line(near, config.raw[key])
            if kcl_keys.wrong(near, config.raw[key]) is not None:
                way_out = kcl_keys.instead(near, config.raw[key])
            if near in {canonical(one) for one in config.raw}:
                way_out = "leave it out"
            if key.startswith(kcl_keys.BEANS):
                yield _error(key, f"is a second name for {near}, and two names for one thing can differ", way_out)
            else:
                yield _error(key, "KCL has no such key and drops it", way_out)
        elif brackets or key.partition(".")[0] in kcl_keys.DAEMON_KEYS:
            yield _error(key, "KCL takes it for a part of something else, and may not start", "leave it out")
        else:
            yield _warning(key, "neither KCL nor the receiver has such a key; it does nothing", "")


SAME = {
    "workerIdentifier": "workerId",
    "kinesisClient.endpointOverride": "kinesisEndpoint",
    "dynamoDbClient.endpointOverride": "dynamoDBEndpoint",
}
"""Keys that set the same in KCL as another one does."""


def same_key_twice(config: ReceiverConfig) -> Iterator[Finding]:
    """The daemon applies keys in an order of its own, and ends where credentials are set a second time."""
    seen: dict[str, str] = {}
    for key in sorted(config.raw):
        name = SAME.get(key, canonical(key))
        if key.endswith("Client.region") and "regionName" in config.raw:
            name = "regionName"
        if name in seen and seen[name] != key:
            yield _error(
                key, f"{seen[name]} is set as well, and both say the same thing to KCL", "leave one of them out"
            )
        seen.setdefault(name, key)


def secrets(config: ReceiverConfig) -> Iterator[Finding]:
    """The file is read by many, and KCL logs each line of it."""
    for key, text in config.raw.items():
        options = key == "receiver.javaOptions" and "-Daws.secretAccessKey=" in text
        names = canonical(key) != key or key.startswith("awsCredentialsProvider")
        if options or (kcl_keys.looks_secret(key) and not names) or (names and credentials.shown(text) != text):
            yield _warning(
                key,
                "holds what looks like a secret: files get copied, and KCL logs each of their lines",
                "give the daemon a role, a profile or its environment instead: DefaultCredentialsProvider finds them",
            )


def shutdown_grace(config: ReceiverConfig) -> Iterator[Finding]:
    """Without a grace time, SIGTERM never reaches the processors."""
    grace = config.shutdown_grace_millis
    way_out = f"shutdownGraceMillis = {SUGGESTED_GRACE_MILLIS}"
    if not grace:
        yield _error(
            "shutdownGraceMillis",
            "is not set: at SIGTERM the daemon would end without shutdown_requested, and what was stored since the "
            "last checkpoint would be read again after every restart",
            way_out,
        )
    elif grace < LEAST_DRAIN_MILLIS:
        yield _error(
            "shutdownGraceMillis",
            f"{grace} ms is too short for a drain, which takes up to {LEAST_DRAIN_MILLIS} ms to store and checkpoint",
            way_out,
        )


def handoff(config: ReceiverConfig) -> Iterator[Finding]:
    """An orderly move of a lease is a drain of one shard."""
    timeout = config.graceful_lease_handoff_timeout_millis
    if timeout < LEAST_DRAIN_MILLIS:
        yield _error(
            "gracefulLeaseHandoffTimeoutMillis",
            f"{timeout} ms is below the time of a drain, up to {LEAST_DRAIN_MILLIS} ms: KCL would take each lease away "
            "before its last block is checkpointed, and its next owner would store those records again",
            "gracefulLeaseHandoffTimeoutMillis = 30000",
        )
    if kcl_keys.value(config.raw, "isGracefulLeaseHandoffEnabled") is False:
        yield _warning(
            "isGracefulLeaseHandoffEnabled",
            "leases move without a drain: nothing is lost, but the next owner reads again what is not checkpointed",
            "isGracefulLeaseHandoffEnabled = true",
        )


def empty_calls(config: ReceiverConfig) -> Iterator[Finding]:
    """A checkpoint is possible only while the daemon waits for an action."""
    if not config.empty_calls:
        yield _error(
            "callProcessRecordsEvenForEmptyRecordList",
            "is not true: an idle shard's last block is never checkpointed, because the daemon takes a checkpoint only "
            "during a call",
            "callProcessRecordsEvenForEmptyRecordList = true",
        )


def timeout(config: ReceiverConfig) -> Iterator[Finding]:
    """The daemon halts its JVM, without any drain, when a processor is silent for timeoutInSeconds."""
    least = longest_wait_millis(config)
    if config.timeout_in_seconds is not None and config.timeout_in_seconds * 1000 < least:
        yield _error(
            "timeoutInSeconds",
            f"{config.timeout_in_seconds} s is below the longest wait of a processor (receiver.generatorTimeoutMillis "
            f"{config.generator_timeout_millis} + receiver.storeTimeoutMillis {config.store_timeout_millis} + "
            f"{ANSWER_MARGIN_MILLIS} ms): the daemon would halt its JVM, without a drain, while the store is slow",
            f"timeoutInSeconds = {-(-least // 1000)}, or: leave it out",
        )


def threads(config: ReceiverConfig) -> Iterator[Finding]:
    """Each child needs three threads of the daemon's pool at once."""
    if config.max_active_threads != 0:
        yield _error(
            "maxActiveThreads",
            "a fixed pool can deadlock: every shard holds one thread for stderr and needs others to read and to write",
            "maxActiveThreads = 0",
        )


def shard_sync(config: ReceiverConfig) -> Iterator[Finding]:
    """A lease without a hash range lets foreign user records pass."""
    key = "skipShardSyncAtWorkerInitializationIfLeasesExist"
    if kcl_keys.value(config.raw, key):
        yield _error(
            key,
            "leases would stay without hash ranges, and KCL then does not filter aggregated records that belong to "
            "another shard, so that they are stored twice after a reshard",
            f"{key} = false",
        )


def retrieval_mode(config: ReceiverConfig) -> Iterator[Finding]:
    """DEFAULT means FANOUT, which costs money and registers a consumer, unless a polling key happens to be set."""
    if config.retrieval_mode in (None, "DEFAULT"):
        yield _error(
            "retrievalMode",
            "is not said: KCL then takes FANOUT, which registers a consumer that is paid by the hour, unless some key "
            "of polling happens to be in the file",
            "retrievalMode = POLLING",
        )


def initial_position(config: ReceiverConfig, now_millis: int) -> Iterator[Finding]:
    """LATEST loses data until the first checkpoint, unless `run` starts it; and no iterator begins in the future."""
    key, (kind, millis) = "initialPositionInStream", config.initial_position
    if kind == "LATEST":
        yield Finding(
            SETTINGS,
            OK,
            key,
            "LATEST: only `run` may start it. It fixes the time of the first start for all hosts, and KCL reads from "
            "then on; `command` and a java launched by hand refuse it, because KCL's own LATEST loses records",
        )
    elif kind == "MISSING":
        yield _error(
            key,
            "is missing, which means LATEST to KCL: until its first checkpoint, a shard that is started again or moved "
            "begins at the newest record, and what came in between is never read. From now on, or all there is:",
            f"{instead_of_latest(now_millis)}, or: {key} = TRIM_HORIZON",
        )
    elif millis is not None and millis > now_millis:
        yield _error(
            f"{key}Extended",
            f"{millis // 1000} lies {(millis - now_millis) // 1000} s in the future: Kinesis refuses every iterator",
            f"{instead_of_latest(now_millis)}, or: {key} = TRIM_HORIZON",
        )


def identity(config: ReceiverConfig) -> Iterator[Finding]:
    """The daemon does not start without a provider; and what Python cannot take over, it must not hide."""
    named = {canonical(key): key for key in config.raw}
    if "awsCredentialsProvider" not in named and not any(
        key.startswith("kinesisCredentialsProvider.") for key in named
    ):
        yield _error(
            "AwsCredentialsProvider",
            "is missing, and the daemon does not start without",
            "AwsCredentialsProvider = DefaultCredentialsProvider",
        )
    for key in config.raw:
        if key.startswith(NESTED_CREDENTIALS):
            yield _foreign(key, f"what {key} makes")
    for name, key in named.items():
        if name.startswith("awsCredentialsProvider") and name != "awsCredentialsProviderCloudWatch":
            for provider in credentials.chain(config.raw[key]):
                if provider.way is Way.FOREIGN:
                    yield _foreign(key, provider.text)


def _foreign(key: str, java: str) -> Finding:
    return _warning(
        key,
        f"two identities: java signs as {java} says; check, generator, status, verify and recover cannot, and sign "
        "with what boto3 finds (environment, profile, container, instance): both need the permissions",
        "",
    )


NESTED_CREDENTIALS = tuple(prefix for prefixes in credentials.NESTED.values() for prefix in prefixes)


def region(config: ReceiverConfig) -> Iterator[Finding]:
    """KCL does not take the region out of the stream's ARN."""
    said = config.raw.get("regionName", "").strip()
    found = STREAM_ARN.fullmatch(config.stream_arn or "")
    of_arn = found["region"] if found else None
    single = [key for key in config.raw if key.endswith("Client.region")]
    all_of_ours = all(f"{client}.region" in single for client in CLIENTS.values())
    if said and of_arn and said != of_arn:
        yield _error("regionName", f"{said!r} is not the region of streamArn", f"regionName = {of_arn}")
    elif not said and not config.uses_emulator and not all_of_ours:
        way_out = f"regionName = {of_arn or config.region or 'eu-west-1'}"
        yield _warning(
            "regionName",
            "is not said: the daemon takes it from its environment, which differs between a shell and a service",
            "say the region of each client, or of none and regionName" if single else way_out,
        )


def endpoints(config: ReceiverConfig) -> Iterator[Finding]:
    """An emulator for one service and AWS for another is hardly meant."""
    if not config.uses_emulator:
        return
    kinesis, dynamodb = config.kinesis_endpoint, config.dynamodb_endpoint
    for key, mine, other, its in (
        ("kinesisEndpoint", kinesis, "DynamoDB", dynamodb),
        ("dynamoDBEndpoint", dynamodb, "Kinesis", kinesis),
    ):
        if mine is None:
            reason = f"is missing, while {other} is an emulator: this service would be that of AWS"
            yield _error(key, reason, f"{key} = {its}")
    if kcl_keys.value(config.raw, "metricsLevel") != "NONE":
        yield _warning(
            "metricsLevel", "metrics go to CloudWatch at AWS, although the rest is an emulator", "metricsLevel = NONE"
        )


def worker_id(config: ReceiverConfig) -> Iterator[Finding]:
    """Two daemons with one workerId take each other's leases for ever."""
    if config.worker_id is not None:
        yield _warning(
            "workerId",
            "is fixed: two hosts that share this file would take each other's leases for ever",
            "leave it out: `run` sets one that is unique to host and application, and KCL makes one up",
        )


def ignored_values(config: ReceiverConfig) -> Iterator[Finding]:
    """KCL takes 0 for unset where its own default is another number, and false where it is true."""
    for key, text in config.raw.items():
        taken = kcl_keys.ignored(key, text)
        if taken:
            yield _warning(key, f"{text} has no effect: KCL takes it for unset, and works with {taken}", "leave it out")


def read_pause(config: ReceiverConfig) -> Iterator[Finding]:
    """KCL's polling waits 200 ms between two reads at least."""
    key = "idleTimeBetweenReadsInMillis"
    pause = kcl_keys.value(config.raw, key)
    if pause is not None and pause < LEAST_PAUSE_MILLIS:
        yield _warning(key, f"KCL waits {LEAST_PAUSE_MILLIS} ms at least", f"{key} = {LEAST_PAUSE_MILLIS}")


CHECKS: tuple[Callable[[ReceiverConfig], Iterator[Finding]], ...] = (
    unknown_keys,
    same_key_twice,
    secrets,
    identity,
    region,
    endpoints,
    executable_name,
    worker_id,
    retrieval_mode,
    empty_calls,
    shutdown_grace,
    handoff,
    timeout,
    threads,
    shard_sync,
    ignored_values,
    read_pause,
)


def _error(key: str, reason: str, instead: str) -> Finding:
    return Finding(SETTINGS, ERROR, key, reason, instead)


def _warning(key: str, reason: str, instead: str) -> Finding:
    return Finding(SETTINGS, WARNING, key, reason, instead)
