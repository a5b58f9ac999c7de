"""Asks a running generator for its live state, over the socket that its processors use."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from kcl_receiver.errors import GeneratorUnavailable, ProtocolError
from kcl_receiver.status.report import GeneratorState
from kcl_receiver.wire.frames import Frame, FrameReader, encode
from kcl_receiver.wire.messages import Refused, Status, StatusRequest

TIMEOUT_SECONDS = 5.0


def ask_status(path: Path, timeout: float = TIMEOUT_SECONDS) -> GeneratorState:
    """Return what `GeneratorServer.status` says.

    Args:
        path: The generator's socket.
        timeout: Seconds to wait for each step.

    Raises:
        GeneratorUnavailable: Nobody answers there.
        WireError: What answers does not speak this protocol.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        try:
            link.connect(str(path))
            link.sendall(b"".join(memoryview(part) for part in encode(StatusRequest())))
            frame = _receive(link)
        except OSError as error:
            raise GeneratorUnavailable(
                f"no generator answers at {path}: {error.strerror or error}",
                "is it running? `kcl-receiver run` starts it, and so does the first processor of a plain java launch",
            ) from error
    if isinstance(frame.message, Refused):
        raise ProtocolError(f"{frame.message.error}: {frame.message.message}", frame.message.hint)
    if not isinstance(frame.message, Status):
        raise ProtocolError(f"the generator answered {type(frame.message).__name__} instead of Status")
    try:
        return msgspec.json.decode(bytes(frame.payload), type=GeneratorState)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(
            f"the generator's status is not what this version understands: {error}",
            "is the generator of another version? stop it and start it again",
        ) from error


def _receive(link: socket.socket) -> Frame:
    reader = FrameReader(frozenset({Status}))
    while True:
        received = link.recv_into(reader.buffer())
        if received == 0:
            raise ConnectionResetError("it hung up")
        frame = reader.advance(received)
        if frame is not None:
            return frame
