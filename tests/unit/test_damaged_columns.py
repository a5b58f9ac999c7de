"""A flipped bit where Parquet describes the columns of a block is damage of that block, and never ends the process.

pyarrow takes the description of a column apart where no error of it is caught (`RowGroupMetaData.column`): the process
ends with SIGABRT. So each case runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
from contextlib import suppress

import pyarrow as pa
from store_support import STREAM, WRITER, block_range

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ids import block_id
from kcl_receiver.store.blocks.encode import encode_block
from kcl_receiver.store.blocks.file import BlockFile, compression_of
from kcl_receiver.store.blocks.footers import FOOTER_KEY

class One:
    def __init__(self, content):
        self.content = content

    def open_block(self, _):
        return pa.BufferReader(self.content)

block = block_id(WRITER, 1)
encoded = encode_block(block, WRITER, STREAM, [block_range(1, 2)], "none")
content = bytes(memoryview(encoded.payload))
begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
for at in range(begin, content.index(FOOTER_KEY.encode(), begin)):
    for bit in range(8):
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << bit
        store = One(bytes(spoilt))
        {use}
print("all were read")
"""

USES = {
    "rows": """
        with suppress(BlockDamaged), BlockFile(store, block) as file:
            file.check_rows(encoded.ranges)
""",
    "compression": "compression_of(store, block)",
}


@pytest.mark.parametrize("use", USES)
def test_no_damage_of_what_describes_the_columns_ends_the_process(use: str) -> None:
    child = CHILD.replace("{use}", USES[use].strip())
    done = subprocess.run(
        [sys.executable, "-c", child],
        env={"PYTHONPATH": str(Path(__file__).parent)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all were read\n"), done.stderr[-500:]
