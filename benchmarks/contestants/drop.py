"""Reads the daemon's lines in large pieces, drops the bytes, and answers every line: the player's own ceiling."""

from __future__ import annotations

import os

ANSWERS = {
    b'{"action":"initialize"': b"initialize",
    b'{"action":"processReco': b"processRecords",
    b'{"action":"shutdownReq': b"shutdownRequested",
    b'{"action":"leaseLost"}': b"leaseLost",
}
KNOWN_BY = 22
"""Bytes that tell one line from another."""


def main() -> None:
    """Answer until the daemon hangs up."""
    buffer = bytearray(1024 * 1024)
    start = bytearray()
    while length := os.readv(0, [buffer]):
        if len(start) < KNOWN_BY:
            start += buffer[: min(KNOWN_BY - len(start), length)]
        if buffer[length - 1] == 10:  # lines come in lock step: a line feed is in no other place
            os.write(1, b'{"action":"status","responseFor":"' + ANSWERS[bytes(start)] + b'"}\n')
            start = bytearray()


if __name__ == "__main__":
    main()
