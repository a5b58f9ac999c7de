"""What the processor's state machine asks its driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from kcl_receiver.errors import ReceiverError
from kcl_receiver.processor.codec import Action
from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Connect:
    """Try to reach the generator; answered by `connected` or `disconnected`."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a message, with its columns if it is a batch."""

    message: Message
    columns: Columns | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Ask the daemon for a checkpoint; None is the bare one. Answered by `checkpoint_result`."""

    position: Position | None


@dataclass(frozen=True, slots=True)
class Done:
    """Tell the daemon that the action is done."""

    action: Action


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave the process: in order (None), or with an error."""

    error: ReceiverError | None


Effect = Connect | Transmit | Checkpoint | Done | Exit
