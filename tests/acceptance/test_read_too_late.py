"""Read within the stream's retention, or not: the real daemon, on a clock that is moved."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from landing import Landing

from kcl_receiver.errors import EXIT_AMISS, EXIT_OK

pytestmark = pytest.mark.daemon

Make = Callable[..., Landing]

HOUR = 3600
SHARD = "shardId-000000000000"


def verified(landing: Landing, *options: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of `verify`."""
    result = landing.cli("verify", "--properties", str(landing.properties), "--output", "json", *options)
    return result.returncode, json.loads(result.stdout)


def test_records_that_were_trimmed_while_java_stood_still_are_never_called_proven(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    landing.producer.put(100)
    run = landing.run()
    landing.wait_landed()
    (java,) = landing.daemons()
    java.send_signal(signal.SIGSTOP)
    landing.producer.put(50)
    landing.emulator.kinesis.advance(26 * HOUR)  # of 24 hours of retention
    landing.producer.put(50)
    java.send_signal(signal.SIGCONT)
    landing.wait("what the stream still has is stored", lambda: landing.judge().stored == 150)
    shard = landing.status()["shards"][0]
    assert shard["possibly_trimmed"] is not None
    assert shard["possibly_trimmed_links"] == 1
    assert "may have been trimmed before they were read" in landing.log()
    assert landing.stop(run) == EXIT_OK
    for options in ((), ("--leases", "--against-stream")):
        code, said = verified(landing, *options)
        assert (code, said["proven"]) == (EXIT_AMISS, False)
        (found,) = said["shards"]
        # This host's clock stood still: what came since it was measured may have been as late, and is doubted too.
        trimmed = found["possibly_trimmed"][-1]
        assert found["state"] == "possibly trimmed"
        assert trimmed["unread_to"] - trimmed["unread_from"] > HOUR * 1000


@pytest.mark.slow
def test_an_idle_shard_that_is_read_to_its_tip_stays_proven_over_restarts_however_long_nothing_comes(
    make_landing: Make,
) -> None:
    landing = make_landing(shards=1)
    landing.producer.put(100)
    for _ in range(3):
        run = landing.run()
        landing.wait_landed()
        landing.wait(
            "the shard is known to be read to its tip",
            lambda: [one["read_until"] for one in landing.status().get("shards", []) if one["read_until"] > 0],
        )
        assert landing.stop(run) == EXIT_OK
        # What was said by a clock counts from its next measurement on: this machine does not feel the hours that pass.
        run = landing.run()
        landing.wait("the clock was measured again", lambda: landing.status().get("prepared"))
        assert landing.stop(run) == EXIT_OK
        landing.emulator.kinesis.advance(20 * HOUR)
    landing.producer.put(50)
    run = landing.run()
    landing.wait_landed("what came after 60 idle hours is stored")
    assert landing.status()["shards"][0]["possibly_trimmed"] is None
    assert landing.stop(run) == EXIT_OK
    assert "may have been trimmed" not in landing.log()
    code, said = verified(landing)
    assert (code, said["proven"]) == (EXIT_OK, True)
