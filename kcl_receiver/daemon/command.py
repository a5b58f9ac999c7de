"""Builds the command line of the java MultiLangDaemon: the same for `run`, for `command` and for the tests.

The command says by itself all that the promises need; nothing is left to an environment variable that gets lost when
the line is copied into a service manager.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kcl_receiver.config.credentials import EMULATOR_KEYS, is_emulator
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.errors import ConfigError

MAIN_CLASS = "software.amazon.kinesis.multilang.MultiLangDaemon"

LOG_CONFIGURATION = Path(__file__).with_name("logback.xml")
"""Readable lines, and KCL's messages per batch left out."""

JAXB = Path(__file__).with_name("jaxb.jar")
"""A class that KCL 3.1.3 needs where an aggregate has a bad table index: in no jar of its own, nor in Java since 11.

Without it, KCL skips the whole page of such a record, delivers and checkpoints what follows, and stands still. Its
source is in the directory beside it.
"""

NO_CBOR = "-Daws.cborEnabled=false"
"""AWS speaks CBOR, not all emulators do. The variable CBOR_ENABLED would do as well, and be lost with a copied line."""

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL_DYNAMODB")
"""By which AWS's SDKs, that of Java as well, can be told of an endpoint that is not in the properties file."""

EMULATOR_OPTIONS = (
    NO_CBOR,
    f"-Daws.accessKeyId={EMULATOR_KEYS.access_key}",
    f"-Daws.secretAccessKey={EMULATOR_KEYS.secret_key}",
)


def daemon_command(
    config: ReceiverConfig,
    java: Path,
    jars: Path,
    properties_path: Path | None = None,
    log_configuration: Path | None = None,
    tuning: Sequence[str] = (),
) -> list[str]:
    """Return the daemon's command line as a list of arguments.

    Args:
        config: The settings.
        java: The java executable; see `find_java`.
        jars: The directory of jars; see `find_jars`.
        properties_path: The file that the daemon reads, if it is not `config.path`.
        log_configuration: A logback file to use instead of the one that comes with this package.
        tuning: Options that `tune` has chosen for this machine; without them it is the plain launch.
    """
    return [
        str(java),
        # Java 17 writes lines in the locale's encoding: under LC_ALL=C a partition key `é` would arrive as `?`.
        "-Dfile.encoding=UTF-8",
        # A JVM that lost a thread to OutOfMemoryError stands still for ever; one that exits is started again.
        "-XX:+ExitOnOutOfMemoryError",
        # Where KCL's own region is not asked: STS of a role, and all of it where regionName is not set.
        *([f"-Daws.region={config.region}"] if config.region else []),
        *(EMULATOR_OPTIONS if config.uses_emulator else (NO_CBOR,) if environment_names_emulator() else ()),
        *tuning,
        # After ours, so that they win.
        *config.java_options,
        "-cp",
        # Only jars: the daemon looks for the properties file on the class path before it looks in the file system.
        f"{jars}/*:{JAXB}",
        MAIN_CLASS,
        "--properties-file",
        str((properties_path or config.path).absolute()),
        "--log-configuration",
        str((log_configuration or LOG_CONFIGURATION).absolute()),
    ]


def environment_names_emulator() -> bool:
    """Tell whether the environment sends AWS's SDKs to an emulator: to plain http, which is never AWS."""
    return any(is_emulator(os.environ.get(name, "").strip()) for name in ENDPOINT_VARIABLES)


def refuse_latest(config: ReceiverConfig, now_millis: int) -> None:
    """Refuse a starting point that loses data when the daemon is started with this file as it is.

    Raises:
        ConfigError: initialPositionInStream is LATEST or missing, which KCL takes for LATEST.
    """
    if config.initial_position.loses_data:
        said = "is missing, which means LATEST" if config.initial_position.kind == "MISSING" else "= LATEST"
        raise ConfigError(
            f"{config.path}: initialPositionInStream {said}: until its first checkpoint a shard that is started again, "
            "or moved, begins at the newest record, and what came in between is never read",
            f"write: {instead_of_latest(now_millis)} (from now on), "
            "or: initialPositionInStream = TRIM_HORIZON (all that the stream still has); "
            "`kcl-receiver run` takes LATEST as it is",
        )


def instead_of_latest(now_millis: int) -> str:
    """Return the line that begins at the newest record of now, and stays there over restarts."""
    return f"initialPositionInStreamExtended = {now_millis // 1000}"
