from __future__ import annotations

import json
from pathlib import Path

import pytest
from emulator_support import Client

from kcl_receiver.emulator.persist import Directory, Journal, drop_deleted_streams
from kcl_receiver.errors import EnvironmentProblem


def test_a_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log")
    events = [{"n": row, "text": "é\n日" * row} for row in range(5)]
    for event in events:
        journal.append(event)
    journal.close()
    again = Journal(tmp_path / "log")
    assert list(again.replay()) == events
    assert again.lines == 5
    again.append({"n": 5})
    assert list(again.replay())[-1] == {"n": 5}
    again.close()


@pytest.mark.parametrize("torn", [b"{", b'{"n": 2}', b"\xff\x00"])
def test_a_last_line_that_was_cut_off_is_removed(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 1}\n' + torn)
    journal = Journal(path)
    assert list(journal.replay()) == [{"n": 1}]
    journal.append({"n": 3})
    journal.close()
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 1}\n{"n": \n{"n": 3}\n')
    journal = Journal(path)
    with pytest.raises(EnvironmentProblem, match="damaged at byte 9"):
        list(journal.replay())
    journal.close()
    assert path.read_bytes().count(b"\n") == 3


def test_a_journal_is_rewritten_in_one_step_and_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log")
    for row in range(10):
        journal.append({"n": row})
    journal.rewrite(event for event in [{"n": 0}, {"n": 9}])
    assert journal.lines == 2
    journal.append({"n": 10})
    assert [one["n"] for one in journal.replay()] == [0, 9, 10]
    journal.close()


def test_streams_that_no_longer_exist_leave_the_journal(tmp_path: Path) -> None:
    client = Client()
    for name in ("gone", "again", "stays"):
        client.stream(name)
        client.put(name=name)
    for name in ("gone", "again"):
        client.call("DeleteStream", StreamName=name)
    client.kinesis.advance(5)
    client.stream("again")
    client.put(b"new", name="again")
    journal = Journal(tmp_path / "log")
    for event in client.events:
        journal.append(event)
    assert drop_deleted_streams(journal) == 6
    assert journal.lines == len(client.events) - 6
    again = Client()
    for event in journal.replay():
        again.kinesis.replay(event)
    assert again.kinesis.streams() == ["again", "stays"]
    for name in ("again", "stays"):
        assert again.kinesis.shards(name) == client.kinesis.shards(name)
    assert again.kinesis.now() == client.kinesis.now()
    assert drop_deleted_streams(journal) == 0
    journal.close()


def test_a_directory_keeps_its_account_and_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "aws", "111111111111", "us-east-1")
    with pytest.raises(EnvironmentProblem, match="another emulator runs on"):
        Directory(tmp_path / "aws", "222222222222", "us-east-1")
    directory.close()
    again = Directory(tmp_path / "aws", "222222222222", "us-east-1")
    assert again.account == "111111111111"
    again.close()


def test_a_directory_of_another_version_is_refused_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "emulator.json").write_text(json.dumps({"version": 99, "account": "1", "region": "r"}))
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match="version 99"):
            Directory(tmp_path, "1", "r")


def test_a_directory_that_cannot_be_made_is_a_problem_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be used"):
        Directory(tmp_path / "file" / "aws", "1", "r")
