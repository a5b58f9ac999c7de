"""JSON as the simulation's own parts read it: plain objects, without the package's definitions."""

from __future__ import annotations

from typing import Any

import msgspec

from kcl_receiver.store.json_codec import read_json

_DECODER = msgspec.json.Decoder()


def loads(text: bytes) -> Any:  # noqa: ANN401 - whatever was written
    """Return what a text holds.

    Raises:
        ValueError: It is no JSON.
    """
    return read_json(_DECODER, text)
