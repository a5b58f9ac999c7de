"""Reads the properties file that the daemon and this package share, typed and checked.

The daemon reads the file itself, by java.util.Properties, so it is read here by the same rules. The rule kept: a value
is either what its key asks for, or an error that names file, key and value and says what to write instead; nothing
falls back to a default in silence. Whether settings that are each valid also keep the promises is `checks`' business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import javaproperties

from kcl_receiver.config import credentials, kcl_keys, paths
from kcl_receiver.config.credentials import CLIENTS, EMULATOR_KEYS, Access, Identity, is_emulator
from kcl_receiver.config.kcl_values import line
from kcl_receiver.config.values import (
    MIB,
    STREAM_ARN,
    parse_compression,
    parse_launch,
    parse_options,
    parse_size,
    parse_switch,
    processor_line,
    store_url,
)
from kcl_receiver.errors import ConfigError

_T = TypeVar("_T")

KCL_HANDOFF_MILLIS = 30_000
"""Default of GracefulLeaseHandoffConfig in KCL 3.1.3."""
KCL_FAILOVER_MILLIS = 10_000
"""Default of LeaseManagementConfig in KCL 3.1.3."""


class InitialPosition(NamedTuple):
    """Where a shard without a checkpoint is read from.

    `kind` is TRIM_HORIZON, LATEST, AT_TIMESTAMP, or MISSING, which KCL takes for LATEST. `timestamp_millis` (since the
    epoch) belongs to AT_TIMESTAMP, and is None where it cannot be read; KCL's key for it is
    initialPositionInStreamExtended and counts seconds.
    """

    kind: str
    timestamp_millis: int | None = None

    @property
    def loses_data(self) -> bool:
        """Whether KCL would skip records when a lease moves before its first checkpoint."""
        return self.kind in ("LATEST", "MISSING")


class Problem(NamedTuple):
    """Something wrong with one key: `instead` is what to write, or empty where there is no one answer."""

    key: str
    value: str | None
    reason: str
    instead: str


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """One properties file. Durations are milliseconds and sizes bytes unless the name says otherwise.

    Attributes:
        path: Absolute path of the file.
        raw: Every key of the file, as java.util.Properties reads it.
        application_name: The KCL application.
        stream_name: From streamArn if that is set, as KCL does.
        stream_arn: None unless set.
        region: From regionName, else from streamArn, else from AWS_REGION or AWS_DEFAULT_REGION, else None.
        kinesis_endpoint: Endpoint to use instead of the region's, or None.
        dynamodb_endpoint: The same for DynamoDB.
        table_name: The lease table: tableName, else the application's name.
        executable_name: The command line of a processor, which the daemon splits at spaces.
        worker_id: None unless the file fixes it.
        initial_position: See `InitialPosition`.
        shutdown_grace_millis: None if unset, which makes the daemon skip the drain.
        graceful_lease_handoff_timeout_millis: How long KCL waits for an orderly move of a lease.
        failover_time_millis: A lease not renewed for this long is free.
        timeout_in_seconds: How long the daemon waits for a processor before it halts; None: without limit.
        max_active_threads: Threads of the daemon's pool; 0: as many as it needs.
        retrieval_mode: POLLING, FANOUT, DEFAULT, or None if unset.
        empty_calls: callProcessRecordsEvenForEmptyRecordList.
        store: URL of the block store; only `file:///…` in this version.
        socket: Path of the generator's socket.
        block_interval_millis: A block is cut at latest this long after its first record.
        block_max_bytes: A block is cut when it holds this much.
        window_bytes: Per shard: bytes accepted by the generator and not yet stored.
        checkpoint_interval_millis: Least time between two checkpoints of a shard.
        compression: none, snappy, lz4 or zstd.
        compression_level: For zstd, 1 to 22; None: the codec's own default.
        generator_timeout_millis: A processor gives up when no generator has answered for this long.
        store_timeout_millis: A store that fails for this long ends the generator.
        store_again: Store again what the ledger says is stored.
        idle_exit_millis: A generator started by a processor leaves after this long without any processor.
        java: Path of the java executable, or None to look for one.
        java_launch: tuned or plain: whether the JVM's heap is chosen for the daemon, or by Java; see `daemon.tuning`.
        java_options: Further options of the java command.
        jars: Directory of the KCL's jars, or None for those in amazon_kclpy.
        log_directory: Where `run` writes generator.log and daemon.log.
        compact_target_bytes: `run` merges small blocks into blocks of about this size; None: it does not.
    """

    path: Path
    raw: Mapping[str, str]
    application_name: str
    stream_name: str
    stream_arn: str | None
    region: str | None
    kinesis_endpoint: str | None
    dynamodb_endpoint: str | None
    table_name: str
    executable_name: str
    worker_id: str | None
    initial_position: InitialPosition
    shutdown_grace_millis: int | None
    graceful_lease_handoff_timeout_millis: int
    failover_time_millis: int
    timeout_in_seconds: int | None
    max_active_threads: int
    retrieval_mode: str | None
    empty_calls: bool
    store: str
    socket: Path
    block_interval_millis: int
    block_max_bytes: int
    window_bytes: int
    checkpoint_interval_millis: int
    compression: str
    compression_level: int | None
    generator_timeout_millis: int
    store_timeout_millis: int
    store_again: bool
    idle_exit_millis: int
    java: Path | None
    java_launch: str
    java_options: tuple[str, ...]
    jars: Path | None
    log_directory: Path
    compact_target_bytes: int | None

    @property
    def uses_emulator(self) -> bool:
        """Whether an endpoint is an emulator's."""
        return is_emulator(self.kinesis_endpoint) or is_emulator(self.dynamodb_endpoint)

    def access(self, service: str, region: str | None = None, endpoint: str | None = None) -> Access:
        """Return where `kinesis` or `dynamodb` is, and as whom it is asked: the same as the daemon, by the same keys.

        Args:
            service: One of the two.
            region: A region to take instead.
            endpoint: An endpoint to take instead.
        """
        keys, profile, default = credentials.system_keys(self.java_options)
        if keys is None and (self.uses_emulator or is_emulator(endpoint)):
            keys = EMULATOR_KEYS
        return Access(
            service,
            region or self.raw.get(f"{CLIENTS[service]}.region", "").strip() or self.region,
            endpoint or (self.kinesis_endpoint if service == "kinesis" else self.dynamodb_endpoint),
            Identity(credentials.providers(self.raw, service), keys, profile, default or self.region),
        )

    @property
    def store_directory(self) -> Path:
        """The directory of a `file:///…` store."""
        return Path(unquote(urlsplit(self.store).path))


def load(path: str | os.PathLike[str]) -> ReceiverConfig:
    """Return the settings of a properties file.

    Raises:
        ConfigError: The file cannot be read, or a value in it cannot work. The message names file, key and value; the
            hint says what to write instead.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the link that the user named
    config, problems = inspect(file, read(file))
    if config is None or problems:
        first = problems[0]
        said = f"{first.key} is missing" if first.value is None else f"{first.key} = {first.value}"
        more = f" ({len(problems) - 1} more: see `kcl-receiver check`)" if len(problems) > 1 else ""
        hint = f"write: {first.instead}" if " = " in first.instead else first.instead
        raise ConfigError(f"{file}: {said}: {first.reason}{more}", hint)
    return config


def read(file: Path) -> dict[str, str]:
    """Return all keys of a properties file, as java.util.Properties reads them.

    Raises:
        ConfigError: The file cannot be read, or is not a properties file.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", "name a properties file: --properties FILE"
        ) from error
    if AMBIGUOUS.search(content):
        raise ConfigError(
            f"{file}: a line that holds nothing but a backslash goes before a comment",
            "remove the backslash: parsers do not agree on whether the comment is one",
        )
    try:
        return parse(content)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}", "a backslash is written as \\\\") from error


def parse(content: bytes) -> dict[str, str]:
    """Return the keys of the lines of a properties file.

    Raises:
        ValueError: An escape is broken.
    """
    return dict(javaproperties.loads(content))


AMBIGUOUS = re.compile(rb"(?:\A|[\r\n])[ \t\f]*\\(?:\r\n|\r|\n)[ \t\f]*[#!]")
"""Java 17 takes the second line for a comment, the library does not."""


def inspect(file: Path, raw: Mapping[str, str]) -> tuple[ReceiverConfig | None, list[Problem]]:
    """Return the settings, or None if a key that all depends on is unusable, and everything that is wrong with them."""
    reader = _Reader(file, raw)
    config = reader.config()
    return (config if not reader.fatal else None), reader.problems


class _Reader:
    """Reads keys one by one and notes what is wrong; a bad value gives way to its default so that the rest is seen."""

    def __init__(self, file: Path, raw: Mapping[str, str]) -> None:
        self.file = file
        self.raw = raw
        self.problems: list[Problem] = []
        self.fatal = False

    def note(self, key: str, reason: str, instead: str = "") -> None:
        value = self.raw.get(key)
        if value is not None and credentials.canonical(key).startswith("awsCredentialsProvider"):
            value = credentials.shown(value)
        if value is not None and _SECRET_OPTION.search(value):
            # What is printed here ends up in logs and tickets, and the key may be any: a misspelt one, for instance.
            value, instead = "…", "leave it out"
        self.problems.append(Problem(key, value, reason, instead))

    def text(self, key: str) -> str | None:
        return self.raw.get(key, "").strip() or None

    def needed(self, key: str, reason: str, instead: str) -> str:
        value = self.text(key)
        if value is None:
            self.note(key, reason, instead)
            self.fatal = True
        return value or ""

    def parsed(self, key: str, default: _T, parse: Callable[[str], _T], instead: str) -> _T:
        value = self.text(key)
        if value is None:
            if key in self.raw:
                self.note(key, "has no value", instead)
            return default
        try:
            return parse(value)
        except ValueError as error:
            self.note(key, str(error), instead)
            return default

    def whole(self, key: str, default: int, least: int) -> int:
        return self.parsed(key, default, lambda value: _whole(value, least), f"{key} = {default}")

    def switch(self, key: str, default: bool) -> bool:
        return self.parsed(key, default, parse_switch, f"{key} = {str(default).lower()}")

    def kcl(self, key: str, default: _T) -> _T:
        """Return the value of a key of KCL as KCL reads it; whatever is wrong with it, `_kcl_values` has noted."""
        value: _T | None = kcl_keys.value(self.raw, key)
        return default if value is None else value

    def absolute(self, key: str) -> Path | None:
        value = self.text(key)
        if value is None and key in self.raw:
            self.note(key, "has no value", "leave it out")
        if value is not None and not _is_path(value):
            self.note(key, "cannot be the path of anything", "leave it out")
            return None
        # Relative to the file and not to the working directory, which differs between daemon, generator and shell.
        return None if value is None else Path(os.path.normpath(self.file.parent / value))

    def config(self) -> ReceiverConfig:
        self._misspelt()
        self._kcl_values()
        arn = self.text("streamArn")
        name = self._stream(arn)
        application = self.needed(
            "applicationName", "KCL needs it to name the lease table", "applicationName = my-application"
        )
        store = self._store()
        zstd: tuple[str, int | None] = ("zstd", None)
        codec, level = self.parsed("receiver.compression", zstd, parse_compression, "receiver.compression = zstd")
        return ReceiverConfig(
            path=self.file,
            raw=dict(self.raw),
            application_name=application,
            stream_name=name,
            stream_arn=arn,
            region=self._region(arn),
            kinesis_endpoint=self._endpoint("kinesisEndpoint", "kinesisClient.endpointOverride"),
            dynamodb_endpoint=self._endpoint("dynamoDBEndpoint", "dynamoDbClient.endpointOverride"),
            table_name=self.text("tableName") or application,
            executable_name=self.needed(
                "executableName",
                "the daemon needs the command of a processor",
                processor_line(self.file),
            ),
            worker_id=self.text("workerId") or self.text("workerIdentifier"),
            initial_position=self._initial_position(),
            shutdown_grace_millis=self.kcl("shutdownGraceMillis", None),
            graceful_lease_handoff_timeout_millis=self.kcl("gracefulLeaseHandoffTimeoutMillis", KCL_HANDOFF_MILLIS),
            failover_time_millis=self.kcl("failoverTimeMillis", KCL_FAILOVER_MILLIS),
            timeout_in_seconds=self.kcl("timeoutInSeconds", None),
            max_active_threads=self.kcl("maxActiveThreads", 0),
            retrieval_mode=self.kcl("retrievalMode", None),
            empty_calls=self.kcl("callProcessRecordsEvenForEmptyRecordList", False),
            store=store,
            socket=self._socket(application),
            block_interval_millis=self.whole("receiver.blockIntervalMillis", 1000, least=1),
            block_max_bytes=self._size("receiver.blockMaxBytes", 64 * MIB, "64MiB"),
            window_bytes=self._size("receiver.windowBytes", 32 * MIB, "32MiB"),
            checkpoint_interval_millis=self.whole("receiver.checkpointIntervalMillis", 5000, least=0),
            compression=codec,
            compression_level=level,
            generator_timeout_millis=self.whole("receiver.generatorTimeoutMillis", 60_000, least=1),
            store_timeout_millis=self.whole("receiver.storeTimeoutMillis", 300_000, least=1),
            store_again=self.switch("receiver.storeAgain", False),
            idle_exit_millis=self.whole("receiver.idleExitMillis", 60_000, least=1),
            java=self.absolute("receiver.java"),
            java_launch=self.parsed("receiver.javaLaunch", "tuned", parse_launch, "receiver.javaLaunch = tuned"),
            java_options=self.parsed("receiver.javaOptions", (), parse_options, "receiver.javaOptions = -Xmx512m"),
            jars=self.absolute("receiver.jars"),
            log_directory=self.absolute("receiver.logDirectory") or default_log_directory(application),
            compact_target_bytes=self.parsed(
                "receiver.compactTargetBytes", None, parse_size, "receiver.compactTargetBytes = 128MiB"
            ),
        )

    def _misspelt(self) -> None:
        for key in self.raw:
            if key.startswith("receiver.") and key not in RECEIVER_KEYS:
                self.note(key, "there is no such key", self._near(key))

    def _near(self, key: str) -> str:
        near = kcl_keys.nearest(key, RECEIVER_KEYS)
        if near is None:
            return ""
        if near in self.raw:
            return "leave it out"
        _, problems = inspect(self.file, {**_LEAST, near: self.raw[key]})
        refused = [problem.instead for problem in problems if problem.key == near]
        return refused[0] if refused else line(near, self.raw[key])

    def _kcl_values(self) -> None:
        for key, text in self.raw.items():
            found = kcl_keys.wrong(key, text)
            if key == "streamArn" and STREAM_ARN.fullmatch(text.strip()) is None:
                continue  # told once, by what it should be
            if found is not None and not (key in _NEEDED and not text.strip()):
                reason, instead = found
                self.note(key, reason, processor_line(self.file) if key == "executableName" else instead)

    def _stream(self, arn: str | None) -> str:
        if arn is None:
            return self.needed("streamName", "nothing says which stream to read", "streamName = my-stream")
        found = STREAM_ARN.fullmatch(arn)
        if found is None:
            self.fatal = True
            self.note(
                "streamArn", "is not the ARN of a stream", "streamArn = arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
            )
            return ""
        return found["name"]

    def _socket(self, application: str) -> Path:
        default = Path(paths.default_socket(application))
        socket = self.absolute("receiver.socket") or default
        length = len(os.fsencode(socket))
        if length > paths.MAX_SOCKET_PATH:
            reason = f"{socket} has {length} bytes, and a socket's path may have {paths.MAX_SOCKET_PATH}"
            self.note("receiver.socket", reason, line("receiver.socket", str(default)))
        return socket

    def _endpoint(self, *keys: str) -> str | None:
        return next((found for key in keys if (found := self.kcl(key, ""))), None)

    def _region(self, arn: str | None) -> str | None:
        found = STREAM_ARN.fullmatch(arn or "")
        return (
            self.text("regionName")
            or (found["region"] if found else None)
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or None
        )

    def _initial_position(self) -> InitialPosition:
        word: str | None = self.kcl("initialPositionInStream", None)
        seconds: int | None = self.kcl("initialPositionInStreamExtended", None)
        if {"initialPositionInStream", "initialPositionInStreamExtended"} <= self.raw.keys():
            self.note(
                "initialPositionInStream",
                "initialPositionInStreamExtended is set as well, and KCL applies them in no fixed order",
                "one of the two",
            )
        if word is None and "initialPositionInStreamExtended" in self.raw:
            return InitialPosition("AT_TIMESTAMP", None if seconds is None else seconds * 1000)
        return InitialPosition(word or "MISSING")

    def _store(self) -> str:
        example = f"receiver.store = {(self.file.parent / 'store').as_uri()}"
        value = self.needed("receiver.store", "nothing says where blocks go", example)
        if value:
            try:
                return store_url(value)
            except ValueError as error:
                self.fatal = True
                self.note("receiver.store", str(error), example)
        return value

    def _size(self, key: str, default: int, shown: str) -> int:
        return self.parsed(key, default, parse_size, f"{key} = {shown}")


_SECRET_OPTION = re.compile(r"(?i)-D\S*(secret|password|token)\S*=")
"""An option of java that sets a secret."""

_LEAST = {"applicationName": "a", "streamName": "s", "executableName": "p", "receiver.store": "file:///s"}

_NEEDED = frozenset({"applicationName", "streamName", "executableName"})
"""Keys that are told to be missing where they are empty."""

RECEIVER_KEYS = frozenset(
    "receiver." + name
    for name in (
        "store",
        "socket",
        "blockIntervalMillis",
        "blockMaxBytes",
        "windowBytes",
        "checkpointIntervalMillis",
        "compression",
        "generatorTimeoutMillis",
        "storeTimeoutMillis",
        "storeAgain",
        "idleExitMillis",
        "java",
        "javaLaunch",
        "javaOptions",
        "jars",
        "logDirectory",
        "compactTargetBytes",
    )
)
"""Every key of our own."""


def default_log_directory(application: str) -> Path:
    """Return where logs go if receiver.logDirectory says nothing: the user's state directory, or beside the socket."""
    state = os.environ.get("XDG_STATE_HOME", "")
    home = os.path.expanduser("~")  # noqa: PTH111 - Path's own raises an error where there is no home
    beside = Path(paths.default_socket(application)).parent
    if not state.startswith("/") and not home.startswith("/"):
        # A user id that has no entry in passwd, and no HOME, as containers have them.
        return beside / "log"
    return (Path(state) if state.startswith("/") else Path(home) / ".local/state") / "kcl-receiver" / beside.name


def _is_path(text: str) -> bool:
    """Tell whether a text can be given to the system as a path: no NUL, and no half of a character."""
    try:
        return b"\x00" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _whole(text: str, least: int) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text) is None:
        raise ValueError("is not a whole number")
    if int(text) < least:
        raise ValueError(f"must be {least} or more")
    return int(text)
