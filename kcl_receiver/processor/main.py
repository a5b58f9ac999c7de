"""The command kcl-receiver-processor: one process per shard, started by the MultiLangDaemon.

It imports neither click nor the properties library: its start-up time and memory are paid once per shard.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import sys

from kcl_receiver import __version__
from kcl_receiver.config.paths import SUPERVISED, default_socket, resolve_socket, scan
from kcl_receiver.errors import EXIT_OK, EXIT_USAGE, ConfigError, InternalError, ReceiverError
from kcl_receiver.memory import keep_freed
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.runtime import PollRuntime
from kcl_receiver.processor.spawn import OUTPUT_NAME, Spawner

USAGE = """Usage: kcl-receiver-processor --properties FILE

Processes one shard. It is not run by hand: the MultiLangDaemon starts it, one process per shard, by the line

    executableName = /path/to/kcl-receiver-processor --properties /path/to/FILE

and speaks with it over standard input and output. `kcl-receiver check` says whether the line is right.
"""
DEFAULT_GENERATOR_TIMEOUT_MILLIS = 60_000
F_SETPIPE_SZ = 1031
"""The module fcntl has had the name since Python 3.10, if it was built on a system that has it."""
PIPE_BYTES = 2**20
"""Of the pipe from the daemon: what an unprivileged process may have. Its 64 KiB mean a wake-up for each."""
KEPT_BYTES = 32 * 2**20
"""Of freed memory, until the shard has nothing more to deliver: two copies of the data of the largest line."""


def main() -> None:
    """Run a processor and exit with its code."""
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        sys.exit(EXIT_OK)
    if arguments == ["--version"]:
        sys.stdout.write(f"kcl-receiver-processor {__version__}\n")
        sys.exit(EXIT_OK)
    if len(arguments) != 2 or arguments[0] not in ("-p", "--properties"):
        sys.stderr.write(USAGE)
        sys.exit(EXIT_USAGE)
    try:
        error = _run(os.path.abspath(arguments[1]))
    except ReceiverError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - a bug: the daemon's log gets its traceback, and KCL reads again
        import traceback  # noqa: PLC0415 - costs every processor something, and none should come here

        sys.stderr.write(traceback.format_exc())
        error = InternalError.of(failure)
    if error is not None:
        # The daemon logs a child's stderr line by line.
        sys.stderr.write("kcl-receiver-processor: " + str(error).replace("\n", " ") + "\n")
        sys.stderr.flush()
    os._exit(EXIT_OK if error is None else error.exit_code)


def _run(properties: str) -> ReceiverError | None:
    # Ctrl-C and a service manager's SIGTERM reach the whole process group. The daemon decides when a processor ends,
    # and it tells so on stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed(KEPT_BYTES, arenas=1)
    daemon_in, daemon_out = _take_over_stdio()
    application, socket_path, timeout = find_generator(properties)
    pid = os.getpid()
    core = ProcessorCore(
        application=application,
        session=f"{pid}-{os.urandom(8).hex()}",
        pid=pid,
        generator_timeout=timeout,
        rng=random.Random(),  # noqa: S311 - jitter
        generator_log=generator_log(socket_path),
    )
    runtime = PollRuntime(daemon_in, daemon_out, socket_path, Spawner(properties, socket_path))
    return runtime.run(Driver(core, runtime))


def generator_log(socket_path: str) -> str:
    """Return the file where the generator says what is wrong, whoever started it: also if it could not start at all."""
    supervised = os.environ.get(SUPERVISED, "")
    if supervised:
        return supervised if supervised.startswith("/") else "the generator's log"
    return os.path.join(os.path.dirname(socket_path), OUTPUT_NAME)


def _take_over_stdio() -> tuple[int, int]:
    """Return descriptors for the daemon's protocol, and let nothing else write to it.

    Whatever prints in this process prints to stderr from here on: a line on the daemon's pipe that is not its protocol
    would be logged as an error at best, and taken for an answer at worst.
    """
    daemon_in = os.dup(0)
    daemon_out = os.dup(1)
    # Not on every system, and refused once the pipes of a user hold 64 MiB: then it is as it was (pipe(7)).
    with contextlib.suppress(OSError):
        fcntl.fcntl(daemon_in, F_SETPIPE_SZ, PIPE_BYTES)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return daemon_in, daemon_out


def find_generator(properties: str) -> tuple[str, str, float]:
    """Return application, socket path and the time in seconds to go on without a generator.

    Raises:
        ConfigError: The properties file cannot be read, or names no application.
    """
    wanted = ("applicationName", "receiver.socket", "receiver.generatorTimeoutMillis")
    try:
        with open(properties, "rb") as file:
            found = scan(file.read(), wanted)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{properties} can't be read: {error}", "see executableName in it") from error
    application = found.get("applicationName", "").strip()
    if not application:
        raise ConfigError(f"{properties} has no applicationName", "run `kcl-receiver check --properties FILE`")
    socket = found.get("receiver.socket", "").strip()
    path = resolve_socket(properties, socket) if socket else default_socket(application)
    millis = found.get("receiver.generatorTimeoutMillis", "").strip()
    timeout = int(millis) if millis.isascii() and millis.isdigit() else DEFAULT_GENERATOR_TIMEOUT_MILLIS
    return application, path, timeout / 1000


if __name__ == "__main__":
    main()
