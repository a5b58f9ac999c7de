"""What the generator's logic needs to know of the properties."""

from __future__ import annotations

from dataclasses import dataclass

from kcl_receiver.status.report import SILENT_SECONDS
from kcl_receiver.wire.frames import BATCH_BYTES
from kcl_receiver.wire.messages import Welcome


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """Limits and intervals; times in seconds, sizes in bytes.

    Attributes:
        application: A generator serves one application.
        block_interval: A block is cut so long after its first batch came.
        block_max_bytes: A block is cut when its columns hold so much.
        window_bytes: Of one shard, admitted and not stored.
        checkpoint_interval: Least time between two checkpoints of a shard.
        generator_timeout: How long a processor goes on without a generator.
        store_timeout: How long a failing store, or stream, is tried again.
        drain: How long shutdown_requested may take, and how long a draining generator waits for processors.
        idle_exit: Leave after so long without a processor; None if a supervisor decides that.
        max_in_flight: Blocks being written at a time.
        silent_after: A processor that has said nothing for so long is called silent.
        note_apart: Least time between two notes of a processor; see `kcl_receiver.processor.notes`.
    """

    application: str
    block_interval: float = 1.0
    block_max_bytes: int = 64 * 1024 * 1024
    window_bytes: int = 32 * 1024 * 1024
    checkpoint_interval: float = 5.0
    generator_timeout: float = 60.0
    store_timeout: float = 300.0
    drain: float = 20.0
    idle_exit: float | None = None
    max_in_flight: int = 4
    silent_after: float = SILENT_SECONDS
    note_apart: float = 0.0

    def welcome(self, writer: str, next_number: int) -> Welcome:
        """Return what a processor is told of the settings when its session opens or resumes."""
        return Welcome(
            generator=writer,
            next_number=next_number,
            batch_bytes=min(BATCH_BYTES, self.window_bytes, self.block_max_bytes),
            window_bytes=self.window_bytes,
            checkpoint_interval_millis=round(self.checkpoint_interval * 1000),
            generator_timeout_millis=round(self.generator_timeout * 1000),
            store_timeout_millis=round(self.store_timeout * 1000),
            drain_millis=round(self.drain * 1000),
            note_millis=round(self.note_apart * 1000),
        )
