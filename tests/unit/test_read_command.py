"""The command read: forms of output, bounds, the token file, signals, and who stops reading its output."""

from __future__ import annotations

import base64
import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from store_support import NOW, columns_of, local_store, range_of, session_at
from test_read import OTHER_SHARD, SHARD, Lake, count, run_of

from kcl_receiver.cli import main
from kcl_receiver.cli.read import read as command
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import BlockRange


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(local_store(tmp_path / "store"))


def odd(lake: Lake) -> None:
    rows = [
        (1, 0, "schlüssel".encode(), NOW + 7, 'täxt, "quoted"\nline'.encode()),
        (2, 3, b"", -1, b"\xff\x00"),
        (3, 0, b"k", NOW, b""),
    ]
    columns = columns_of(rows)
    lake.block(BlockRange(range_of(columns), columns))


def run(lake: Lake, *options: str, code: int = 0) -> bytes:
    done = CliRunner().invoke(main.cli, ["read", "--store", lake.store.url, *options], standalone_mode=False)
    if done.exception is not None and code == 0:
        raise done.exception
    assert code or done.return_value == 0
    return done.stdout_bytes


def sequence_numbers(lines: bytes, shard: str = SHARD) -> list[int]:
    found = [json.loads(line) for line in lines.splitlines()]
    return [int(one["sequence_number"]) for one in found if one["shard_id"] == shard]


def test_json_lines_have_every_record_back(lake: Lake) -> None:
    odd(lake)
    one, two, three = map(json.loads, run(lake).splitlines())
    assert one == {
        "shard_id": SHARD,
        "sequence_number": "1",
        "sub_sequence_number": 0,
        "partition_key": "schlüssel",
        "approximate_arrival_timestamp": "2026-11-22T13:15:01.007Z",
        "data": 'täxt, "quoted"\nline',
    }
    assert base64.b64decode(two["data_base64"]) == b"\xff\x00"
    assert "data" not in two
    assert two["approximate_arrival_timestamp"] is None
    assert three["data"] == ""


def test_csv_has_every_record_back(lake: Lake) -> None:
    odd(lake)
    rows = list(csv.DictReader(io.StringIO(run(lake, "--format", "csv").decode(), newline="")))
    assert [(row["data"], row["data_base64"]) for row in rows] == [('täxt, "quoted"\nline', ""), ("", "/wA="), ("", "")]
    assert [row["approximate_arrival_timestamp"] for row in rows][:2] == ["2026-11-22T13:15:01.007Z", ""]
    assert (
        run(lake, "--format", "csv", "--columns", "sub_sequence_number,shard_id").splitlines()[1]
        == f"0,{SHARD}".encode()
    )


def test_raw_is_the_data_and_what_separates_it(lake: Lake) -> None:
    lake.block(run_of(1, 2))
    assert run(lake, "--format", "raw") == b"data-1\ndata-2\n"
    assert run(lake, "--format", "raw", "--raw-separator", r"\0|\t\\") == b"data-1\0|\t\\data-2\0|\t\\"
    assert run(lake, "--format", "raw", "--raw-separator", "", "--no-check") == b"data-1data-2"


def test_arrow_is_a_stream_with_the_columns_asked_for(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.block(run_of(4, 9, 3))
    table = pa.ipc.open_stream(run(lake, "--format", "arrow")).read_all()
    assert table.schema == SCHEMA
    assert table.num_rows == 9
    assert pa.ipc.open_stream(run(lake, "--format", "arrow", "--columns", "data")).read_all().num_columns == 1


def test_an_empty_store_of_ours_gives_nothing(lake: Lake) -> None:
    assert run(lake) == b""
    assert pa.ipc.open_stream(run(lake, "--format", "arrow")).read_all().num_rows == 0


def test_shards_positions_times_and_limits_bound_what_comes(lake: Lake) -> None:
    lake.block(run_of(1, 9), run_of(1, 9, shard=OTHER_SHARD))
    lake.block(run_of(10, 19, 9), run_of(10, 19, 9, shard=OTHER_SHARD))
    assert sequence_numbers(run(lake, "--shard", SHARD, "--limit", "12")) == count(1, 12)
    bounds = ["--after", f"{SHARD}=4", "--after", f"{OTHER_SHARD}=17:0"]
    assert sequence_numbers(run(lake, *bounds)) == count(5, 19)
    assert sequence_numbers(run(lake, *bounds), OTHER_SHARD) == [18, 19]
    since, until = ["--since", "2026-11-22T13:15:01.004Z"], ["--until", "2026-11-22T13:15:01.012+00:00"]
    assert sequence_numbers(run(lake, *since, *until)) == count(4, 11)


def test_a_token_file_goes_on_where_the_last_call_ended(lake: Lake, tmp_path: Path) -> None:
    lake.block(run_of(1, 9))
    token = str(tmp_path / "place.json")
    assert sequence_numbers(run(lake, "--token-file", token, "--limit", "4", "--since", "2026-11-22")) == count(1, 4)
    lake.block(run_of(10, 12, 9))
    assert sequence_numbers(run(lake, "--token-file", token, "--since", "2026-11-22")) == count(5, 12)
    assert run(lake, "--token-file", token) == b""
    assert sorted(one.name for one in tmp_path.iterdir()) == ["place.json", "store"]


def test_after_an_error_the_token_is_that_of_what_came_out(lake: Lake, tmp_path: Path) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    token = tmp_path / "place.json"
    assert sequence_numbers(run(lake, "--token-file", str(token), code=1)) == count(1, 3)
    assert f'"{SHARD}":"3:0"' in token.read_text()
    assert sequence_numbers(run(lake, "--token-file", str(token), "--on-hole", "report")) == count(7, 9)


def test_errors_have_their_exit_codes(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake.block(run_of(1, 3))
    url = lake.store.url
    bad = tmp_path / "bad"
    bad.write_text("x")
    assert main.run_cli(["read", "--store", url, "--token-file", str(bad)]) == 2
    assert main.run_cli(["read", "--store", url, "--columns", "dat"]) == 2
    assert main.run_cli(["read", "--store", url, "--after", "5"]) == 2
    assert main.run_cli(["read", "--store", url, "--format", "raw", "--columns", "data"]) == 2
    assert main.run_cli(["read", "--store", url, "--since", "1h", "--after", f"{SHARD}=1"]) == 2
    assert main.run_cli(["read", "--store", f"file://{tmp_path}/none"]) == 4
    assert "there is no store" in capsys.readouterr().err
    lake.block(run_of(7, 9, 6))
    assert main.run_cli(["read", "--store", url]) == 1
    captured = capsys.readouterr()
    assert "HoleFound" in captured.err
    lake.kept(1).remove()
    assert main.run_cli(["read", "--store", url]) == 4
    assert lake.blocks[0].block in capsys.readouterr().err


def test_a_hole_is_reported_on_stderr(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    lake.block(run_of(1, 3))
    lake.add(session_at(5, session="s2"))
    assert main.run_cli(["read", "--store", lake.store.url, "--on-hole", "report"]) == 0
    assert f"hole: {SHARD}: gap after 3:0 through 5:0" in capsys.readouterr().err


def process(lake: Lake, *options: str) -> subprocess.Popen[bytes]:
    code = "from kcl_receiver.cli.main import main; main()"
    arguments = [sys.executable, "-c", code, "read", "--store", lake.store.url, *options]
    return subprocess.Popen(arguments, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_follower_in_good_order(lake: Lake, tmp_path: Path, by: signal.Signals) -> None:
    lake.block(run_of(1, 3))
    token = tmp_path / "place.json"
    child = process(lake, "--follow", "--token-file", str(token))
    assert child.stdout is not None
    assert len([child.stdout.readline() for _ in range(3)]) == 3
    lake.block(run_of(4, 4, 3))
    line = child.stdout.readline()  # the token of the first three was saved before the wait
    assert json.loads(line)["sequence_number"] == "4"
    child.send_signal(by)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, b"", b"")
    lake.block(run_of(5, 6, 4))
    assert sequence_numbers(run(lake, "--token-file", str(token))) == [5, 6]


def test_a_reader_whose_output_nobody_wants_ends_quietly_and_saves_nothing(lake: Lake, tmp_path: Path) -> None:
    rows = [(at, 0, b"k", NOW, b"x" * 5000) for at in range(1, 400)]
    columns = columns_of(rows)
    lake.block(BlockRange(range_of(columns), columns))
    token = tmp_path / "place.json"
    child = process(lake, "--token-file", str(token))
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    assert child.wait(timeout=60) == 1
    child.stderr.close()
    assert not token.exists()


def test_the_command_has_no_more_forms_than_the_reader() -> None:
    from kcl_receiver.cli.read import FORMATS
    from kcl_receiver.reading.formats import FORMATS as KNOWN

    assert FORMATS == KNOWN
    assert command.name == "read"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_all_of_it_arrives_however_slowly_it_is_read(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    rows = [(at, 0, b"k", NOW, b"x" * 5000) for at in range(1, 400)]
    columns = columns_of(rows)
    lake.block(BlockRange(range_of(columns), columns))
    child = process(lake, "--format", "raw")
    assert child.stdout is not None
    first = child.stdout.readline()
    out, err = child.communicate(timeout=60)
    assert (len(first) + len(out), err, child.returncode) == (399 * 5001, b"", 0)
