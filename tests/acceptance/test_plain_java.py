"""The printed java command with nothing else running: the first processor starts the generator."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
from landing import Landing

pytestmark = pytest.mark.daemon


def test_a_plain_java_launch_lands_everything(make_landing: Callable[..., Landing]) -> None:
    landing = make_landing(receiver_idleExitMillis="2000")
    landing.producer.put(500)
    java = landing.plain_java()
    landing.wait_landed()
    assert len(landing.generators()) == 1
    landing.stop(java)
    verdict = landing.judge()
    assert verdict.perfect, verdict
    landing.wait("the idle generator leaves", lambda: not landing.generators())
    assert not landing.socket.exists()
    landing.verify()


@pytest.mark.slow
def test_the_daemon_sees_a_lost_lease_through_though_the_processor_that_started_the_generator_was_killed(
    make_landing: Callable[..., Landing],
) -> None:
    # With its old name the second daemon takes the leases at once; a new name waits 2 minutes for the leader's lock.
    landing = make_landing(shards=1, workerId="the-only-worker")
    landing.producer.put(100)
    java = landing.plain_java()
    landing.wait_landed()
    (generator,) = landing.generators()
    (processor,) = landing.processors()
    processor.kill()
    # The daemon waits for end of file on the dead child's stdout and stderr: a generator that held them would keep it.
    java.wait(60)
    assert generator.is_running()
    assert generator.status() != psutil.STATUS_ZOMBIE
    landing.producer.put(100)
    landing.plain_java()
    landing.wait_landed()
    assert landing.generators() == [generator]


def test_partition_keys_beyond_ascii_arrive_under_a_c_locale(make_landing: Callable[..., Landing]) -> None:
    landing = make_landing(shards=1)
    keys = ["kéy-日", "ключ", "🔑", 'tab\tquote"back\\slash']
    for key in keys:
        landing.kinesis.put_record(StreamName="landing", PartitionKey=key, Data=b"x")
    landing.plain_java(LC_ALL="C", LANG="C")
    landing.wait("the records are stored", lambda: landing.judge().stored >= len(keys))
    import pyarrow.parquet as pq

    stored = [
        key for file in landing.store.rglob("*.parquet") for key in pq.read_table(file)["partition_key"].to_pylist()
    ]
    assert sorted(stored) == sorted(keys)
