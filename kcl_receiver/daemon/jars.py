"""Finds the KCL's jars and says which are missing.

amazon_kclpy downloads them while it is installed, and that can stop half-way behind a proxy or without a network; the
daemon would then end with a NoClassDefFoundError. For machines without a network, `receiver.jars` names a directory
that holds them all.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from kcl_receiver.errors import EnvironmentProblem

_NAMES = """
amazon-kinesis-client amazon-kinesis-client-multilang animal-sniffer-annotations annotations apache-client arns auth
aws-cbor-protocol aws-core aws-json-protocol aws-query-protocol checker-qual checksums checksums-spi cloudwatch
commons-beanutils commons-codec commons-collections commons-collections4 commons-io commons-lang3 commons-logging
dynamodb dynamodb-enhanced dynamodb-lock-client endpoints-spi error_prone_annotations flow guava http-auth http-auth-aws
http-auth-spi http-client-spi httpclient httpcore identity-spi ion-java j2objc-annotations jackson-annotations
jackson-core jackson-databind jackson-dataformat-cbor jcommander joda-time json-utils jsr305 kinesis logback-classic
logback-core metrics-spi netty-buffer netty-codec netty-codec-base netty-codec-http netty-codec-http2 netty-common
netty-handler netty-nio-client netty-reactive-streams netty-reactive-streams-http netty-resolver netty-transport
netty-transport-native-epoll netty-transport-native-unix-common profiles protobuf-java protocol-core reactive-streams
regions retries retries-spi rxjava schema-registry-serde sdk-core slf4j-api sts third-party-jackson-core
third-party-jackson-dataformat-cbor utils
"""
NEEDED = frozenset(_NAMES.split())
"""The 79 jars of amazon_kclpy 3.1.3, without their versions."""

_VERSIONED = re.compile(r"(?P<name>.+?)-\d[\w.-]*\.jar")


def find_jars(configured: Path | None = None, *, deep: bool = False) -> Path:
    """Return the directory that holds every jar that the daemon needs.

    Args:
        configured: `ReceiverConfig.jars`, or None for amazon_kclpy's own.
        deep: Also read each jar's directory, which finds one that was cut off while it was downloaded (0.1 s).

    Raises:
        EnvironmentProblem: The directory or some jars are missing, damaged, or not to be named on a class path.
    """
    directory = configured if configured is not None else kclpy_jars()
    jars = sorted(directory.glob("*.jar"))
    hint = f"copy the jars of a complete amazon_kclpy 3.1.x to {directory}" if configured is not None else _REINSTALL
    missing = NEEDED - names(jars)
    if missing:
        few = ", ".join(sorted(missing)[:5]) + (", …" if len(missing) > 5 else "")
        raise EnvironmentProblem(f"{len(missing)} of {len(NEEDED)} jars are missing in {directory}: {few}", hint)
    if ":" in str(directory):
        raise EnvironmentProblem(
            f"{directory} has a colon in it, which divides a class path", "copy the jars elsewhere: receiver.jars = DIR"
        )
    damaged = [jar.name for jar in jars if jar.stat().st_size == 0 or (deep and not zipfile.is_zipfile(jar))]
    if damaged:
        raise EnvironmentProblem(f"damaged jars in {directory}: {', '.join(damaged)}", hint)
    return directory


_REINSTALL = (
    "install it again where Maven Central or its mirror can be reached: "
    "pip install --force-reinstall --no-cache-dir 'amazon_kclpy>=3.1.3,<3.2'; "
    "or copy the jars from another machine: receiver.jars = DIR"
)


def kclpy_jars() -> Path:
    """Return amazon_kclpy's directory of jars, without importing the package.

    Raises:
        EnvironmentProblem: The package is not installed.
    """
    found = importlib.util.find_spec("amazon_kclpy")
    if found is None or found.origin is None:
        raise EnvironmentProblem("the package amazon_kclpy is not installed", _REINSTALL)
    return Path(found.origin).parent / "jars"


def names(jars: Iterable[Path]) -> set[str]:
    """Return the names of jars without their versions."""
    return {found["name"] for jar in jars if (found := _VERSIONED.fullmatch(jar.name))}
