from __future__ import annotations

import select
import threading

import pytest
from live_support import generator, shard

from kcl_receiver.daemon import watcher as module
from kcl_receiver.daemon.watcher import Watcher
from kcl_receiver.status.live import Live, look

PATIENCE = 30.0


def live(records: int) -> Live:
    return look(generator(shard(0), records_stored=records), [], ours="w".__eq__, start_seconds=1.0)


def wait(watcher: Watcher) -> None:
    assert select.select([watcher.fileno()], [], [], PATIENCE)[0]


def test_a_look_wakes_whoever_waits_and_is_taken_once() -> None:
    watcher = Watcher(lambda: live(7))
    assert watcher.taken() is None
    watcher.start()
    wait(watcher)
    assert watcher.taken() == live(7)
    assert watcher.taken() is None
    watcher.stop()


def test_looks_go_on_after_one_that_failed_and_the_failure_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    failed, again, done = threading.Event(), threading.Event(), 0

    def count() -> Live:
        nonlocal done
        done += 1
        if done == 2:
            raise ValueError("a fault")
        if done == 3:
            failed.set()
            again.wait(PATIENCE)
        return live(done)

    watcher = Watcher(count)
    watcher.start()
    assert failed.wait(PATIENCE)
    with pytest.raises(ValueError, match="a fault"):
        watcher.taken()
    assert watcher.taken() == live(1), "the newest look that there was"
    again.set()
    wait(watcher)
    watcher.stop()


def test_a_look_that_does_not_answer_holds_up_nothing() -> None:
    answer = threading.Event()

    def hang() -> Live:
        answer.wait(PATIENCE)
        return live(1)

    watcher = Watcher(hang)
    watcher.start()
    assert watcher.taken() is None
    watcher.stop()
    watcher.stop()
    answer.set()
    watcher._thread.join(PATIENCE)
    assert not watcher._thread.is_alive()
