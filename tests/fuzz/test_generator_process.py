"""The real generator process and its socket under hostile peers: what they cost, what they are told, who is served."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from generator_process import STREAM, GeneratorProcess, Peer
from memory_formula import MIB

from fuzz.grammar import HEADER, hostile_batch, hostile_frame
from fuzz.source import Source
from fuzz.target_frames import EXAMPLES
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.ranges import Position
from kcl_receiver.wire.frames import MAX_MESSAGE, MAX_PAYLOAD, encode
from kcl_receiver.wire.messages import CODES, PROTOCOL_VERSION, Batch, Hello, Refused, StatusRequest, Stored

CONNECTIONS = 1000
LARGEST = HEADER.pack(b"KR", PROTOCOL_VERSION, CODES[Batch], 300, MAX_PAYLOAD)


@pytest.fixture
def generator(tmp_path: Path) -> Iterator[GeneratorProcess]:
    """A generator that is ready."""
    with Emulator(port=0) as emulator:
        emulator.client("kinesis").create_stream(StreamName=STREAM, ShardCount=2)
        made = GeneratorProcess(tmp_path, emulator).up()
        yield made
        made.kill()


class Honest:
    """A peer that opens its session first, and is served whatever the others do."""

    def __init__(self, generator: GeneratorProcess) -> None:
        self.generator = generator
        self.peer = Peer(generator.socket)
        self.peer.greet(session="honest", shard="shardId-000000000001")
        self.number = 0
        self.goes_on()

    def goes_on(self) -> None:
        """Its next batch is stored, and its records are in a block."""
        self.number += 1
        after = Position(self.number - 1) if self.number > 1 else "TRIM_HORIZON"
        self.peer.hand_over([self.number], self.number, after)
        assert self.peer.expect(Stored).number == self.number
        rows = [row for row in self.generator.rows() if row[0] == "shardId-000000000001"]
        assert rows == [("shardId-000000000001", number, 0) for number in range(1, self.number + 1)]


def memory(generator: GeneratorProcess, word: str = "VmRSS") -> int:
    assert generator.process is not None
    status = Path(f"/proc/{generator.process.pid}/status").read_text()
    return int(re.findall(rf"^{word}:\s+(\d+) kB$", status, re.MULTILINE)[0]) * 1024


@contextlib.contextmanager
def many(generator: GeneratorProcess, count: int, content: bytes) -> Iterator[list[socket.socket]]:
    """Have so many connections, each of which has sent the same."""
    with contextlib.ExitStack() as stack:
        links = []
        for _ in range(count):
            link = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            link.settimeout(60)
            link.connect(str(generator.socket))
            link.sendall(content)
            links.append(link)
        yield links


def said(generator: GeneratorProcess) -> str:
    """Return what the log must not hold: anything that nobody has foreseen."""
    return "\n".join(
        line
        for line in generator.log().splitlines()
        if re.search(r"Traceback|Fatal error|internal error|Error: .*Error", line)
    )


def test_a_header_that_announces_the_most_costs_nothing_and_is_refused(generator: GeneratorProcess) -> None:
    honest = Honest(generator)
    before = memory(generator)
    with many(generator, CONNECTIONS, LARGEST) as links:
        for link in links:
            answer = link.recv(4096)
            assert b"ProtocolError" in answer
            assert str(MAX_PAYLOAD).encode() in answer
        honest.goes_on()
        assert memory(generator, "VmHWM") - before < 32 * MIB
    assert said(generator) == ""


def test_half_open_connections_cost_a_message_each_and_harm_nobody(generator: GeneratorProcess) -> None:
    honest = Honest(generator)
    before = memory(generator)
    half = HEADER.pack(b"KR", PROTOCOL_VERSION, CODES[Hello], MAX_MESSAGE, 0) + b"\x87" * 5
    with many(generator, CONNECTIONS, half):
        honest.goes_on()
        assert memory(generator) - before < CONNECTIONS * (MAX_MESSAGE + 16 * 1024)
        with many(generator, CONNECTIONS, b"K"):
            honest.goes_on()
            refused = Peer(generator.socket)
            refused.send_bytes(b"\0" * 12)
            assert refused.expect(Refused).error == "FrameError"
    honest.goes_on()
    generator.wait("they are forgotten", lambda: "pid" in generator.status())
    assert said(generator) == ""


def test_a_peer_that_never_takes_its_answers_makes_nothing_pile_up(generator: GeneratorProcess) -> None:
    honest = Honest(generator)
    before = memory(generator)
    question = b"".join(bytes(memoryview(part)) for part in encode(StatusRequest())) * 1000
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.connect(str(generator.socket))
        deaf.setblocking(False)
        sent = full = 0
        while full < 3 and sent < 4 * MIB:
            try:
                sent += deaf.send(question)
                full = 0
            except BlockingIOError:
                full += 1
                honest.goes_on()  # whatever could be read before this has been
        assert full == 3, f"{sent} bytes of questions were taken from a peer that takes no answer"
        assert memory(generator, "VmHWM") - before < 32 * MIB
    honest.goes_on()
    assert said(generator) == ""


def test_processors_that_connect_while_the_generator_is_busy_find_room_in_the_queue(
    generator: GeneratorProcess,
) -> None:
    honest = Honest(generator)
    generator.signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(300)]
        for link in links:
            link.setblocking(False)  # as processors connect: what finds no room fails at once
            link.connect(str(generator.socket))
        generator.signal(signal.SIGCONT)
        honest.goes_on()


def test_connections_never_take_the_last_descriptors_of_the_store(generator: GeneratorProcess) -> None:
    honest = Honest(generator)
    assert generator.process is not None
    resource.prlimit(generator.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    with many(generator, 300, b"K") as links:
        honest.goes_on()
        links[-1].settimeout(60)
        answer = links[-1].recv(4096)
        assert b"EnvironmentProblem" in answer
        assert b"no more are served" in answer
        honest.goes_on()
    generator.wait("others are served again", lambda: generator.status().get("prepared"))
    assert said(generator) == ""


def test_a_storm_of_hostile_frames_is_refused_by_name_and_the_honest_peer_is_served(
    generator: GeneratorProcess,
) -> None:
    honest = Honest(generator)
    rng = random.Random(7)
    names = set()
    for round_ in range(8):
        for _ in range(40):
            source = Source(rng.randbytes(300))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.settimeout(60)
                link.connect(str(generator.socket))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while source:
                        positions = [Position(5), Position(6)]
                        message, columns = hostile_batch(source, 1, "TRIM_HORIZON", positions)
                        if source.one_in(2):
                            content = hostile_frame(source, message, b"".join(columns))
                        else:
                            content = hostile_frame(source, source.pick(EXAMPLES))
                        link.sendall(content)
                    link.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(ConnectionResetError):  # it hung up with something of ours unread
                    while piece := link.recv(65536):
                        answer += piece
                names |= set(re.findall(rb"(FrameError|ProtocolError|VersionMismatch)", answer))
        honest.goes_on()
        assert honest.number == round_ + 2
    assert names == {b"FrameError", b"ProtocolError", b"VersionMismatch"}
    assert said(generator) == ""
