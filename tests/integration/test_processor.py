"""A real processor process between a daemon and a generator that the test plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processor_process import (
    COMMAND,
    FIRST,
    SHARD,
    Connection,
    Landing,
    ProcessorProcess,
    checkpoint,
    initialize,
    record,
    records,
    status,
    with_path,
)

from kcl_receiver import __version__
from kcl_receiver.errors import (
    EXIT_ENVIRONMENT,
    EXIT_OK,
    EXIT_PROTOCOL,
    EXIT_STORE,
    EXIT_STREAM,
    EXIT_USAGE,
)
from kcl_receiver.wire.frames import encode
from kcl_receiver.wire.messages import (
    Batch,
    Draining,
    Flush,
    Hello,
    Hold,
    Leave,
    Progress,
    Refused,
    ShardEnd,
    ShardEndConfirmed,
    Stored,
    Welcome,
)


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    made = Landing(tmp_path)
    yield made
    made.close()


def begun(landing: Landing, **options: object) -> tuple[ProcessorProcess, Connection]:
    """Return a processor that has initialized, and its open connection."""
    listener = landing.listen()
    processor = landing.processor(**options)
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    return processor, listener.open()


def admitted(processor: ProcessorProcess, generator: Connection, number: int, *given: int) -> None:
    """Deliver records as one batch that is admitted."""
    processor.say(records(*map(record, given)))
    assert generator.receive(Batch).number == number
    generator.admit(number)
    assert processor.hear() == status("processRecords")


def left_behind(processor: ProcessorProcess, generator: Connection, number: int) -> None:
    """Deliver a record whose batch is on its way, and not admitted, when the delivery is done."""
    processor.say(records(record(number)))
    assert processor.hear() == status("processRecords")
    assert generator.receive(Batch).number == number


def one_line(stderr: str) -> str:
    """Return the one line that the daemon will log."""
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1, stderr
    return stderr


# ---------------------------------------------------------------------- the whole way


def test_records_are_admitted_stored_checkpointed_and_the_shard_is_ended(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    generator = listener.accept()
    hello = generator.receive(Hello)
    assert (hello.application, hello.shard, hello.pid, hello.after) == (
        "landing",
        SHARD,
        processor.process.pid,
        "TRIM_HORIZON",
    )
    generator.welcome()

    processor.say(records(record(1, b"one", "kéy-日"), record(2, bytes(range(256)), ""), record(2, b"", sub=1)))
    columns = generator.batch()
    assert [columns.data.value(row) for row in range(3)] == [b"one", bytes(range(256)), b""]
    assert columns.key.value(0).decode() == "kéy-日"
    assert columns.position(2) == (FIRST + 2, 1)
    assert processor.hear() == status("processRecords")

    processor.say(records(record(3)))
    assert processor.is_silent()
    generator.admit(1)
    assert processor.hear() == status("processRecords")
    generator.batch()

    processor.say(records(record(4)))
    generator.send(Stored(1))
    asked = {**checkpoint(2), "subSequenceNumber": 1}
    assert processor.hear() == asked
    processor.say({**asked, "error": None})
    generator.admit(2)
    assert processor.hear() == status("processRecords")
    generator.admit(3)

    processor.say({"action": "shardEnded"})
    generator.receive(Flush)
    generator.send(Stored(3))
    assert generator.receive(ShardEnd).last == f"{FIRST + 4}:0"
    assert processor.is_silent()
    generator.send(ShardEndConfirmed())
    assert processor.hear() == checkpoint(None)
    processor.say(checkpoint(None, answer=True))
    assert processor.hear() == status("shardEnded")
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


def test_an_orderly_shutdown_checkpoints_and_a_lost_lease_does_not(landing: Landing) -> None:
    processor, generator = begun(landing)
    admitted(processor, generator, 1, 1)
    processor.say({"action": "shutdownRequested"})
    generator.receive(Flush)
    generator.send(Stored(1))
    assert processor.hear() == checkpoint(1)
    processor.say(checkpoint(1, answer=True))
    assert processor.hear() == status("shutdownRequested")
    processor.say({"action": "leaseLost"})
    assert processor.hear() == status("leaseLost")
    generator.receive(Leave)
    generator.close()
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


def test_a_shutdown_requested_while_a_batch_is_not_admitted_stores_that_too(landing: Landing) -> None:
    processor, generator = begun(landing)
    left_behind(processor, generator, 1)
    processor.say({"action": "shutdownRequested"})
    generator.admit(1)
    generator.receive(Flush)
    generator.send(Stored(1))
    assert processor.hear() == checkpoint(1)
    processor.say(checkpoint(1, answer=True))
    assert processor.hear() == status("shutdownRequested")


def test_a_lease_lost_while_a_batch_is_being_sent_is_told_behind_it(landing: Landing) -> None:
    processor, generator = begun(landing)
    admitted(processor, generator, 1, 1)
    generator.send(Stored(1))
    processor.say(records(record(2, bytes(10 * 1024 * 1024))))
    assert processor.hear() == checkpoint(1)
    processor.say(checkpoint(1, "ShutdownException", answer=True))
    assert processor.hear() == status("processRecords")
    processor.say({"action": "leaseLost"})
    assert processor.hear() == status("leaseLost")
    processor.hang_up()
    generator.receive(Leave)
    assert processor.leave() == (EXIT_OK, b"", "")


def test_a_shutdown_that_takes_too_long_is_over_in_time(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    generator = listener.accept()
    generator.receive(Hello)
    generator.welcome(drain_millis=100)
    admitted(processor, generator, 1, 1)
    processor.say({"action": "shutdownRequested"})
    assert processor.hear() == status("shutdownRequested")


def test_a_restarted_generator_gets_what_it_lost(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    first = listener.accept()
    hello = first.receive(Hello)
    first.welcome()
    admitted(processor, first, 1, 1)
    admitted(processor, first, 2, 2, 3)
    listener.close()
    listener = landing.listen()
    second = listener.accept()
    again = second.receive(Hello)
    assert (again.rank, again.session, again.next_number) == (hello.rank, hello.session, 1)
    second.welcome()
    assert second.receive(Batch).number == 1
    second.admit(1)
    assert second.receive(Batch).number == 2


def test_the_generator_may_come_later_than_the_records(landing: Landing) -> None:
    processor = landing.processor()
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    processor.say(records(record(1)))
    generator = landing.listen().open()
    assert generator.receive(Batch).number == 1
    generator.admit(1)
    assert processor.hear() == status("processRecords")


# ---------------------------------------------------------------------- the pipe


def test_a_line_may_come_in_tiny_pieces(landing: Landing) -> None:
    processor, generator = begun(landing)
    line = json.dumps(records(record(1, key="日本" * 20)), ensure_ascii=False).encode() + b"\n"
    for start in range(0, len(line), 7):
        processor.write(line[start : start + 7])
    columns = generator.batch()
    assert columns.key.value(0).decode() == "日本" * 20


def test_two_records_of_10_mib_arrive_whole(landing: Landing) -> None:
    processor, generator = begun(landing)
    large = [os.urandom(10 * 1024 * 1024), os.urandom(10 * 1024 * 1024)]
    processor.say(records(record(1, large[0]), record(2, large[1])))
    for number in (1, 2):
        assert generator.batch().data.value(0) == large[number - 1]
        generator.admit(number)
    assert processor.hear() == status("processRecords")


def test_a_line_of_many_small_records_arrives_whole(landing: Landing) -> None:
    processor, generator = begun(landing)
    count = 100_000
    processor.say(records(*(record(1, b"x" * 20, sub=sub) for sub in range(count))))
    seen = 0
    number = 0
    while seen < count:
        number += 1
        columns = generator.batch()
        assert columns.position(0) == (FIRST + 1, seen)
        seen += columns.count
        generator.admit(number)
    assert processor.hear() == status("processRecords")


@pytest.mark.parametrize(
    "wrong",
    [b"hello\n", b'{"action":"dance"}\n', b'{"action":"processRecords","records":[]}\n', b"\xff\xfe\n"],
)
def test_a_daemon_that_says_nonsense_is_left_with_a_reason(landing: Landing, wrong: bytes) -> None:
    processor = landing.processor()
    processor.write(wrong)
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_PROTOCOL, b"")
    assert one_line(err).startswith("kcl-receiver-processor: DaemonError: ")


def test_a_refused_checkpoint_ends_the_process(landing: Landing) -> None:
    processor, generator = begun(landing)
    admitted(processor, generator, 1, 1)
    generator.send(Stored(1))
    processor.say(records())
    assert processor.hear() == checkpoint(1)
    processor.say(checkpoint(1, "IllegalArgumentException", answer=True))
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_PROTOCOL, b"")
    assert "IllegalArgumentException" in one_line(err)


# ---------------------------------------------------------------------- stdout, locale, signals


NOISY = """
import os, sys
def noise(event, arguments):
    if event == "socket.connect":
        print("a print in the child", flush=True)
        os.write(1, b"raw noise\\n")
        os.system("echo noise of a child of the child")
sys.addaudithook(noise)
"""


def test_a_print_in_the_child_does_not_reach_the_protocol(landing: Landing, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(NOISY)
    processor, generator = begun(landing, PYTHONPATH=with_path(tmp_path / "hook"))
    admitted(processor, generator, 1, 1)
    processor.hang_up()
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_OK, b"")
    for noise in ("a print in the child", "raw noise", "noise of a child of the child"):
        assert noise in err


def test_a_read_of_stdin_in_the_child_does_not_take_the_daemons_lines(landing: Landing, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'socket.connect':\n"
        "        sys.stdin.read()\n"
        "sys.addaudithook(hook)\n"
    )
    processor, generator = begun(landing, PYTHONPATH=with_path(tmp_path / "hook"))
    admitted(processor, generator, 1, 1)


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_XX.nonsense"])
def test_partition_keys_survive_any_locale(landing: Landing, locale: str) -> None:
    variables = {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    processor, generator = begun(landing, PYTHONIOENCODING="ascii", **variables)
    processor.say(records(record(1, key="kéy-日😀")))
    assert generator.batch().key.value(0).decode() == "kéy-日😀"


def test_signals_to_the_process_group_are_left_to_the_daemon(landing: Landing) -> None:
    processor, generator = begun(landing)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        processor.signal(number)
    admitted(processor, generator, 1, 1)
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


# ---------------------------------------------------------------------- leaving


def test_end_of_file_ends_a_processor_that_waits_for_its_window(landing: Landing) -> None:
    processor, generator = begun(landing)
    left_behind(processor, generator, 1)
    processor.say(records(record(2)))
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")
    assert generator.frame() is None


def test_end_of_file_ends_a_processor_that_waits_for_a_generator(landing: Landing) -> None:
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    processor.say(records(record(1)))
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


def test_end_of_file_ends_a_processor_that_is_sending_to_a_generator_that_does_not_read(landing: Landing) -> None:
    processor, generator = begun(landing)
    processor.say(records(record(1, bytes(10 * 1024 * 1024))))
    assert generator.socket.recv(1)
    assert processor.hear() == status("processRecords")
    processor.say(records(record(2)))
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


def test_a_generator_that_never_comes_is_not_waited_for_for_ever(landing: Landing) -> None:
    landing.write(**{"receiver.generatorTimeoutMillis": "200"})
    processor = landing.processor()
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    processor.say(records(record(1)))
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_ENVIRONMENT, b"")
    assert one_line(err).startswith("kcl-receiver-processor: GeneratorUnavailable: ")
    assert SHARD in err
    assert "0.2 s" in err


def test_a_generator_that_hangs_up_in_the_middle_of_a_frame_is_asked_again(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    first = listener.accept()
    first.receive(Hello)
    frame = b"".join(bytes(part) for part in encode(Welcome("writer", 1, 1, 1, 1, 1, 1, 1, 0)))
    first.socket.sendall(frame[: len(frame) // 2])
    first.close()
    admitted(processor, listener.open(), 1, 1)


def test_a_generator_of_another_version_is_left_with_a_reason(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    generator = listener.accept()
    generator.receive(Hello)
    frame = bytearray(b"".join(bytes(part) for part in encode(Stored(0))))
    frame[2] += 1
    generator.socket.sendall(frame)
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_PROTOCOL, b"")
    assert one_line(err).startswith("kcl-receiver-processor: VersionMismatch: ")


def test_something_else_on_the_socket_is_left_with_a_reason(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    processor.hear()
    listener.accept().socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    code, _, err = processor.leave()
    assert code == EXIT_PROTOCOL
    assert one_line(err).startswith("kcl-receiver-processor: FrameError: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [("Fenced", EXIT_PROTOCOL), ("StreamGone", EXIT_STREAM), ("StoreRefused", EXIT_STORE), ("New", EXIT_PROTOCOL)],
)
def test_a_refusal_is_the_reason_to_leave(landing: Landing, error: str, code: int) -> None:
    processor, generator = begun(landing)
    left_behind(processor, generator, 1)
    processor.say(records(record(2)))
    generator.send(Refused(error, "what happened", "what to do"))
    generator.close()
    left, out, err = processor.leave()
    assert (left, out) == (code, b"")
    assert error in one_line(err)
    assert "what happened" in err
    assert "what to do" in err


def test_a_shard_whose_lease_cannot_be_read_keeps_its_process_alive_and_lets_the_daemon_shut_down(
    landing: Landing,
) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize(str(FIRST)))
    assert processor.hear() == status("initialize")
    generator = listener.accept()
    generator.receive(Hello)
    generator.send(Hold("LeaseRefused", "what happened", "what to do"))
    processor.say(records(record(1)))
    assert generator.receive(Progress).checkpoint == f"{FIRST}:0"
    assert processor.is_silent()
    generator.send(Draining())
    assert processor.hear() == status("processRecords")
    processor.say({"action": "shutdownRequested"})
    assert processor.hear() == status("shutdownRequested")
    processor.hang_up()
    assert processor.leave() == (EXIT_OK, b"", "")


@pytest.mark.parametrize("waiting", [False, True])
def test_a_refusal_is_heard_while_a_large_batch_is_being_sent(landing: Landing, waiting: bool) -> None:
    processor, generator = begun(landing)
    processor.say(records(record(1, bytes(10 * 1024 * 1024))))
    assert generator.socket.recv(1)
    assert processor.hear() == status("processRecords")
    while waiting and not processor.is_asleep():
        time.sleep(0.01)
    # The processor is to find the refusal and the end of the connection at one time.
    processor.signal(signal.SIGSTOP)
    generator.send(Refused("StoreRefused", "what happened", "what to do"))
    generator.close()
    processor.signal(signal.SIGCONT)
    code, out, err = processor.leave()
    assert (code, out) == (EXIT_STORE, b"")
    assert "what happened" in one_line(err)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "can't be read"), ("", "applicationName"), ("applicationName = \\u12", "can't be read")],
)
def test_an_unusable_properties_file_is_named(landing: Landing, content: str | None, said: str) -> None:
    landing.properties.unlink()
    if content is not None:
        landing.properties.write_text(content)
    code, out, err = landing.processor().leave()
    assert (code, out) == (EXIT_USAGE, b"")
    assert str(landing.properties) in one_line(err)
    assert said in err


def test_a_relative_properties_file_and_socket_are_found(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.write(**{"receiver.socket": "run/generator.sock"})
    base = landing.properties.parent
    monkeypatch.chdir(base.parent)
    landing.properties = Path(base.name) / "landing.properties"
    processor, generator = begun(landing)
    admitted(processor, generator, 1, 1)


# ---------------------------------------------------------------------- what it costs


HEAVY = frozenset(
    {"amazon_kclpy", "asyncio", "boto3", "botocore", "click", "email", "http", "javaproperties", "json", "logging"}
    | {"multiprocessing", "numpy", "pathlib", "pyarrow", "ssl", "tempfile", "urllib", "xml"}
    # Python 3.10's own platform imports it, which msgspec reaches by way of uuid
    | ({"subprocess"} if sys.version_info >= (3, 11) else set())
)
"""Each would be paid for once per shard."""


def imports(profile: str) -> set[str]:
    """Return the modules named by `-X importtime`."""
    return {line.rpartition("|")[2].strip() for line in profile.splitlines() if line.startswith("import time:")}


def test_a_processor_imports_only_what_it_needs(landing: Landing) -> None:
    processor, generator = begun(landing, PYTHONPROFILEIMPORTTIME="1")
    admitted(processor, generator, 1, 1)
    generator.send(Stored(1))
    processor.say({"action": "shutdownRequested"})
    assert processor.hear() == checkpoint(1)
    processor.say(checkpoint(1, answer=True))
    processor.hear()
    processor.hang_up()
    _, _, err = processor.leave()
    bare = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True)
    imported = imports(err) - imports(bare.stderr)
    assert "kcl_receiver.processor.driver" in imported
    assert {name for name in imported if name.partition(".")[0] in HEAVY} == set()
    rooms = {name.split(".")[1] for name in imported if name.startswith("kcl_receiver.")}
    assert rooms <= {"config", "errors", "memory", "processor", "ranges", "schema", "wire"}


def test_version_and_usage_are_told(landing: Landing) -> None:
    told = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"kcl-receiver-processor {__version__}\n"
    told = subprocess.run([COMMAND, "-h"], capture_output=True, text=True, check=True)
    assert "executableName" in told.stdout
    told = subprocess.run([COMMAND], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (EXIT_USAGE, "")
    assert "--properties" in told.stderr


def test_the_module_can_be_run_as_well(landing: Landing) -> None:
    processor, generator = begun(landing, command=[sys.executable, "-m", "kcl_receiver.processor.main"])
    admitted(processor, generator, 1, 1)
