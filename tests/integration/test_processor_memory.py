"""What a processor asks of the machine: its pipe, and its memory once its shard is idle."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from processor_process import Landing, ProcessorProcess, initialize, record, records, status

from kcl_receiver.processor.main import PIPE_BYTES
from kcl_receiver.wire.messages import Stored

F_GETPIPE_SZ = 1032
MIB = 2**20


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    made = Landing(tmp_path)
    yield made
    made.close()


def resident(processor: ProcessorProcess) -> int:
    """Return the process's memory in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{processor.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_the_pipe_from_the_daemon_is_made_larger(landing: Landing) -> None:
    landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    assert processor.process.stdin is not None
    assert fcntl.fcntl(processor.process.stdin, F_GETPIPE_SZ) == PIPE_BYTES


def test_an_idle_shard_gives_the_memory_of_its_last_delivery_back(landing: Landing) -> None:
    listener = landing.listen()
    processor = landing.processor()
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    generator = listener.open()
    processor.say(records(record(1)))
    generator.batch()
    generator.admit(1)
    assert processor.hear() == status("processRecords")
    idle = resident(processor)
    processor.say(records(*(record(number, b"x" * 7000) for number in range(2, 1002))))
    generator.batch()
    generator.admit(2)
    assert processor.hear() == status("processRecords")
    held = resident(processor)
    processor.say(records())
    assert processor.hear() == status("processRecords")
    assert held > idle + 12 * MIB, "the delivery was not there"
    assert resident(processor) > idle + 6 * MIB, "what is not stored was given away"
    generator.send(Stored(2))
    # A status that is asked for after the report was read: the report moves the checkpoint, which is asked for then.
    processor.say(records())
    processor.hear()
    processor.say({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None, "error": None})
    assert processor.hear() == status("processRecords")
    for _ in range(2):  # one to see that the shard is idle, one to be told of before which memory is given back
        processor.say(records())
        assert processor.hear() == status("processRecords")
    assert resident(processor) < idle + 4 * MIB
