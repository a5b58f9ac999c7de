"""The arithmetic of docs/operations.md#memory, for the page's own table and for the test that fills a generator."""

from __future__ import annotations

from kcl_receiver.generator.runtime import STORE_THREADS
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.store.blocks.encode import ROW_GROUP_BYTES
from kcl_receiver.store.o_direct import PIECE_BYTES

MIB = 2**20
BASE_BYTES = 120 * MIB
"""A generator that holds nothing and has stored something: Python, pyarrow and boto3. Seen: 92 to 115 MiB."""
RECORD_BYTES = 10 * MIB
"""The largest record of Kinesis, which is a batch of its own."""


def generator_bytes(shards: int, settings: GeneratorSettings, batch_bytes: int = RECORD_BYTES) -> int:
    """Return the most that a generator takes, beside its base and the index of the ledger.

    Args:
        shards: Shards with a processor on this host.
        settings: Window, block size and blocks being written.
        batch_bytes: The largest batch.
    """
    block = settings.block_max_bytes
    received = shards * batch_bytes
    admitted = min(shards * settings.window_bytes, (settings.max_in_flight + 1) * block)
    encoded = min(admitted, settings.max_in_flight * block)
    in_work = STORE_THREADS * (min(block, admitted) + 3 * ROW_GROUP_BYTES + PIECE_BYTES)
    return received + admitted + encoded + in_work
