"""A child of the MultiLangDaemon that checkpoints what it gets and writes down what happens, one JSON object a line.

Speaks the line protocol by itself, so that a test of the emulator depends on no other part of this package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    with Path(sys.argv[1]).open("a", buffering=1) as record:
        shard = ""

        def note(what: str, **more: object) -> None:
            record.write(json.dumps({"what": what, "shard": shard, **more}) + "\n")

        def say(message: dict[str, Any]) -> None:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

        def checkpoint(sequence: str | None, sub_sequence: int | None) -> None:
            say({"action": "checkpoint", "sequenceNumber": sequence, "subSequenceNumber": sub_sequence})
            answer = json.loads(sys.stdin.readline())
            note("checkpoint", sequence=sequence, error=answer.get("error"))

        for line in sys.stdin:
            message = json.loads(line)
            action = message["action"]
            if action == "initialize":
                shard = message["shardId"]
                note("initialize", at=message["sequenceNumber"])
            elif action == "processRecords":
                for one in message["records"]:
                    sequence, sub = one["sequenceNumber"], one.get("subSequenceNumber") or 0
                    note("record", sequence=sequence, sub=sub, key=one["partitionKey"], data=one["data"])
                if message["records"]:
                    checkpoint(sequence, sub)
            else:
                note(action)
                if action == "shardEnded":
                    checkpoint(None, None)
            say({"action": "status", "responseFor": action})


if __name__ == "__main__":
    main()
