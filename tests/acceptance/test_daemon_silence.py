"""The real daemon reads nothing: `run` and `status` say so, and why; and what was removed is made anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from landing import Landing, is_gone

from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EXIT_AMISS, EXIT_ENVIRONMENT, EXIT_OK

pytestmark = pytest.mark.daemon

Make = Callable[..., Landing]


def told(landing: Landing) -> str:
    """Return what `run` has said."""
    return (landing.base / "run.log").read_text()


def test_a_frozen_java_is_told_with_its_age_and_over_when_it_lives_again(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    run = landing.run()
    landing.producer.put(50)
    landing.wait("the first record is told", lambda: "first record stored" in told(landing))
    assert "reading shardId-000000000000" in told(landing)
    assert landing.cli("status", "-p", str(landing.properties)).returncode == EXIT_OK
    (java,) = landing.daemons()
    java.suspend()
    landing.wait("the silence is told", lambda: "nothing is being read: shardId-000000000000 (silent" in told(landing))
    status = landing.cli("status", "-p", str(landing.properties))
    assert status.returncode == EXIT_AMISS
    assert re.search(r"shard 0  silent for \d+ s", status.stdout), status.stdout
    java.resume()
    landing.wait("its end is told", lambda: re.search(r"resolved after \d+ s: nothing is being read", told(landing)))
    assert landing.cli("status", "-p", str(landing.properties)).returncode == EXIT_OK
    assert landing.stop(run) == EXIT_OK
    assert told(landing).count("nothing is being read") == 2


@pytest.mark.slow
def test_a_start_in_the_future_is_told_with_the_words_of_the_service(make_landing: Make, emulator: Emulator) -> None:
    # In the future by the service's clock alone: what lies there by ours, `run` refuses.
    said = "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis."
    landing = make_landing(shards=1)
    emulator.faults.fail(
        "kinesis", "GetShardIterator", "InvalidArgumentException", message=said, status=400, times=10**9
    )
    landing.run()
    landing.wait("it is told", lambda: "nothing is being read: KCL has started no processor" in told(landing))
    problem = told(landing).partition("nothing is being read")[2]
    assert "KCL has leases for this host and starts one processor per shard" in problem
    assert f"InvalidArgumentException: {said}" in problem
    assert landing.cli("status", "-p", str(landing.properties)).returncode == EXIT_AMISS


@pytest.mark.slow
def test_missing_credentials_are_told_with_the_reason(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    command = [sys.executable, "-m", "kcl_receiver.cli.main", "run", "--properties", str(landing.properties)]
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    landing.start(command, "run.log", **nobody)

    def reason() -> bool:
        """Whether anything but the warning at the start names the credentials."""
        return any("redentials" in line and "warning" not in line for line in told(landing).splitlines())

    landing.wait("the reason is told", reason)
    landing.wait(
        "status fails", lambda: landing.cli("status", "-p", str(landing.properties), **nobody).returncode != EXIT_OK
    )


def test_java_starts_again_though_its_files_were_removed_and_no_second_run_gets_in(make_landing: Make) -> None:
    landing = make_landing(shards=1, shutdownGraceMillis="8000")
    run = landing.run()
    landing.producer.put(50)
    landing.wait_landed()
    for file in landing.socket.parent.iterdir():
        file.unlink()  # as systemd-tmpfiles does in /tmp after ten days
    second = landing.cli("run", "--properties", str(landing.properties))
    assert second.returncode == EXIT_ENVIRONMENT, second.stderr
    (java,) = landing.daemons()
    java.kill()
    landing.wait("it is gone", lambda: is_gone(java))
    landing.producer.put(50)
    landing.wait_landed("what came later is landed by a java that was started again")
    assert len(landing.daemons()) == 1
    assert landing.stop(run) == EXIT_OK
    assert landing.judge().perfect
