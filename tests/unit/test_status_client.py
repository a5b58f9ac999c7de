"""What `kcl-receiver status` makes of an answer that is not the generator's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import live_support
import msgspec
import pytest

from kcl_receiver.errors import GeneratorUnavailable, ProtocolError, WireError
from kcl_receiver.generator.client import ask_status
from kcl_receiver.wire.frames import encode
from kcl_receiver.wire.messages import Refused, Status

Answer = Callable[[bytes], Path]


@pytest.fixture
def answer(tmp_path: Path) -> Iterator[Answer]:
    """Return the path of a socket where somebody answers one question with some bytes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = tmp_path / "generator.sock"
    listener.bind(str(path))
    listener.listen()
    threads: list[threading.Thread] = []

    def serve(content: bytes) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(content)

    def make(content: bytes) -> Path:
        threads.append(threading.Thread(target=serve, args=(content,)))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join()
    listener.close()


def status(payload: bytes) -> bytes:
    return b"".join(bytes(memoryview(part)) for part in encode(Status(), (payload,)))


STATE = live_support.generator(live_support.shard("shardId-000000000000"), pid=5)


def test_what_the_generator_reports_is_returned(answer: Answer) -> None:
    assert ask_status(answer(status(msgspec.json.encode(STATE)))) == STATE


def test_members_of_a_later_version_are_ignored(answer: Answer) -> None:
    later = msgspec.to_builtins(STATE) | {"moon": "full"}
    assert ask_status(answer(status(msgspec.json.encode(later)))) == STATE


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a":' * 50_000],
    ids=lambda payload: repr(payload[:8]),
)
def test_anything_else_is_an_error_that_says_so(answer: Answer, payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="the generator's status is"):
        ask_status(answer(status(payload)))


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", b"KR\x02G" + bytes(8)])
def test_another_protocol_is_named(answer: Answer, content: bytes) -> None:
    with pytest.raises(WireError):
        ask_status(answer(content))


def test_a_refusal_is_passed_on(answer: Answer) -> None:
    refused = b"".join(bytes(memoryview(part)) for part in encode(Refused("Fenced", "why", "what")))
    with pytest.raises(ProtocolError, match="Fenced: why"):
        ask_status(answer(refused))


def test_nobody_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorUnavailable):
        ask_status(tmp_path / "no.sock")
