"""The processor's end of the socket takes all that has come, however it was cut."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kcl_receiver.errors import FrameError
from kcl_receiver.processor.link import ANSWERS_BYTES, GeneratorLink, connect
from kcl_receiver.wire.frames import encode
from kcl_receiver.wire.messages import Draining, Message, Stored

MANY = 3 * ANSWERS_BYTES // len(b"".join(encode(Stored(1))))


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[GeneratorLink, socket.socket]]:
    """A link and the generator's end of it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        link = connect(str(tmp_path / "s"))
        peer, _ = listener.accept()
        with peer:
            yield link, peer
        link.close()


def framed(*messages: Message) -> bytes:
    return b"".join(bytes(part) for message in messages for part in encode(message))


def heard(link: GeneratorLink) -> list[Message]:
    """Return what has come, as often as poll says that there is something."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    out: list[Message] = []
    while poll.poll(0):
        frames, still_open = link.receive()
        out += [frame.message for frame in frames]
        if not still_open:
            break
    return out


def test_answers_that_came_together_are_all_taken(ends: tuple[GeneratorLink, socket.socket]) -> None:
    link, peer = ends
    sent = [*map(Stored, range(1, MANY)), Draining()]
    peer.sendall(framed(*sent))
    frames, still_open = link.receive()  # once: who is about to hang up wants to hear all of it
    assert [frame.message for frame in frames] == sent
    assert still_open


@pytest.mark.parametrize("cut", [1, 11, 12, 13, 20, 28])
def test_an_answer_that_came_in_pieces_is_taken_when_it_is_whole(
    ends: tuple[GeneratorLink, socket.socket], cut: int
) -> None:
    link, peer = ends
    both = framed(Stored(1), Stored(2))
    at = len(both) // 2 + cut
    peer.sendall(both[:at])
    first = heard(link)
    peer.sendall(both[at:])
    assert first + heard(link) == [Stored(1), Stored(2)]
    assert first == [Stored(1), Stored(2)][: at * 2 // len(both)]


def test_what_was_said_last_is_heard_before_the_end(ends: tuple[GeneratorLink, socket.socket]) -> None:
    link, peer = ends
    peer.sendall(framed(Draining()))
    peer.close()
    frames, _ = link.receive()
    assert [frame.message for frame in frames] == [Draining()]
    assert link.receive() == ([], False)


def test_nothing_there_is_no_end(ends: tuple[GeneratorLink, socket.socket]) -> None:
    assert ends[0].receive() == ([], True)


def test_what_is_no_frame_is_refused_behind_one(ends: tuple[GeneratorLink, socket.socket]) -> None:
    link, peer = ends
    peer.sendall(framed(Stored(1)) + b"GET / HTTP/1.1\r\n")
    with pytest.raises(FrameError, match="not a frame"):
        link.receive()
