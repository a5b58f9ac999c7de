"""What people type: places of stores, times, shards, columns. Nothing is read from the wrong place in silence."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from store_support import NOW, SHARD, columns_of, local_store, range_of, session_at
from test_read import OTHER_SHARD, Lake, numbers_of, run_of

from kcl_receiver import open_store, read, records
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import ConfigError, StoreRefused
from kcl_receiver.ranges import Position
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.query import Query
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.times import age_millis, day_text, millis_of, time_millis

MOMENT = datetime.fromtimestamp(NOW / 1000, timezone.utc)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(local_store(tmp_path / "store"))
    made.block(run_of(1, 9), run_of(1, 9, shard=OTHER_SHARD))
    return made


def numbers(store: Any, **named: Any) -> list[tuple[str, int]]:  # noqa: ANN401
    return [(one.shard, one.position.sequence_number) for one in records(store, **named)]


# places


def test_a_store_is_named_by_url_path_or_itself(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (lake.store, lake.store.url, tmp_path / "store", str(tmp_path / "store"), "store", Path("store")):
        assert len(numbers(place)) == 18
        assert open_store(place).url == lake.store.url


def test_a_directory_with_an_odd_name_is_found(tmp_path: Path) -> None:
    for name in ("a b", "50%25", "ké#y?x"):
        made = Lake(local_store(tmp_path / name))
        made.block(run_of(1, 3))
        assert len(numbers(tmp_path / name)) == 3
        assert run_cli(["verify", "--store", str(tmp_path / name)]) == 0


@pytest.mark.parametrize(
    "place",
    ["", "\0", "/\udcff", "file:///%ff", "http://[::1", "ftp://x/y", "file://host/x", "file:x", "s3://b/p", b"/x"],
)
def test_what_is_no_place_of_a_store_is_refused(place: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError) as caught:
        open_store(place)
    assert caught.value.hint


@pytest.mark.parametrize("command", ["read", "verify", "recover", "repair", "compact", "expire --before 1d --yes"])
def test_no_command_makes_a_store_where_a_path_was_mistyped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run_cli([*command.split(), "--store", str(tmp_path / "mistyped")]) == StoreRefused.exit_code
    assert "there is no store at file://" in capsys.readouterr().err
    assert not (tmp_path / "mistyped").exists()


# times


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (MOMENT + timedelta(milliseconds=4), 4),
        (NOW + 4, 4),
        ((MOMENT + timedelta(milliseconds=4)).isoformat(), 4),
        ((MOMENT + timedelta(milliseconds=4)).astimezone(timezone(timedelta(hours=5, minutes=30))), 4),
        (timedelta(milliseconds=996), 4),  # it is a second later than NOW
        ("1s", 1),
    ],
    ids=["datetime", "milliseconds", "ISO 8601", "zone", "timedelta", "age"],
)
def test_a_time_is_what_people_type(lake: Lake, start: Any, first: int) -> None:  # noqa: ANN401
    reading = open_reading(lake.store, Query(now=lambda: NOW + 1000), start=start, shards=SHARD)
    assert [number for batch in reading for number in numbers_of(batch)] == list(range(first, 10))


@pytest.mark.parametrize(
    "bound",
    [
        NOW // 1000,  # seconds
        NOW * 1000,  # microseconds
        NOW / 1000,
        Decimal(NOW),
        True,
        0,
        -1,
        datetime(2026, 11, 22),  # noqa: DTZ001
        datetime(1969, 12, 31, tzinfo=timezone.utc),
        timedelta(days=-1),
        timedelta(days=30_000),
        "",
        "yesterday",
        "999999999d",
        "2026-13-01",
        "1e308",
        "20261122",
        str(NOW // 1000),
        str(NOW),
        {SHARD: 5},
        [1],
        object(),
    ],
)
@pytest.mark.parametrize("name", ["start", "end"])
def test_a_bound_whose_unit_can_be_mistaken_or_that_is_none_is_refused(lake: Lake, name: str, bound: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match=name):
        read(lake.store, **{name: bound}, shards=SHARD)  # type: ignore[arg-type]


def test_a_start_that_is_still_to_come_is_refused_unless_it_is_waited_for(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="still to come"):
        open_reading(lake.store, Query(now=lambda: NOW), start=NOW + 1)
    open_reading(lake.store, Query(now=lambda: NOW, follow=True), start=NOW + 1).close()


def test_a_position_goes_with_one_shard(lake: Lake) -> None:
    for start in ("5:0", "5", Position(5), {SHARD: "5"}, {"0": Position(5)}, {"shard 0": "5"}):
        assert numbers(lake.store, start=start, shards=["0"]) == [(SHARD, number) for number in range(5, 10)]
    with pytest.raises(ConfigError, match="counted in each shard anew"):
        read(lake.store, start="5:0")


@pytest.mark.parametrize("name", ["start", "end"])
def test_a_position_of_a_shard_that_is_not_read_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} names {SHARD}, which is not read"):
        read(lake.store, **{name: {"0": "5:0"}}, shards=["1"])  # type: ignore[arg-type]


def test_times_are_milliseconds_of_iso_8601_or_ages() -> None:
    assert time_millis("2026-11-22", NOW) == 1_795_305_600_000
    for text in (
        "2026-11-22T13:15:01Z",
        "2026-11-22 13:15:01",
        "2026-11-22T14:15:01+01:00",
        "2026-11-22T13:15:01.000z",
    ):
        assert time_millis(text, 0) == 1_795_353_301_000
    assert time_millis("2026-11-22T13:15", 0) == 1_795_353_300_000
    assert time_millis("2026-11-22T13:15:01.0079Z", 0) == 1_795_353_301_007
    assert time_millis("1970-01-01", 0) == 0
    assert (time_millis("90s", NOW), time_millis("30d", NOW)) == (NOW - 90_000, NOW - 30 * 86_400_000)
    assert (age_millis("0h"), age_millis("15m")) == (0, 900_000)
    assert day_text("2026-11-22") == "2026-11-22"
    assert millis_of(datetime.fromtimestamp(1.5, timezone.utc)) == 1500


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T",
        "2026-02-30",
        "2026-11-22Z",
        "20261122",
        "0001-01-01",
        "12H",
        "1.5h",
        "٣d",
        "-1d",
        " 1d",
        "1d\n",
        "x" * 999,
    ],
)
def test_what_is_no_time_is_named_in_short(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a time|lies before 1970") as caught:
        time_millis(text, NOW)
    assert len(str(caught.value)) < 200


# shards and columns


@pytest.mark.parametrize("shards", [SHARD, "0", "shard 0", ["0"], {SHARD, "0"}])
def test_a_shard_is_named_by_its_id_or_as_status_shows_it(lake: Lake, shards: Any) -> None:  # noqa: ANN401
    assert {shard for shard, _ in numbers(lake.store, shards=shards)} == {SHARD}


@pytest.mark.parametrize("shards", ["7", "shardId-7", ["0", "x"], "\0"])
def test_an_unknown_shard_is_refused_with_those_there_are(lake: Lake, shards: Any) -> None:  # noqa: ANN401
    for named in ({"shards": shards}, {"start": dict.fromkeys([shards] if isinstance(shards, str) else shards, "1")}):
        with pytest.raises(ConfigError, match="nothing is stored of") as caught:
            read(lake.store, **named)
        assert f"{SHARD}, {OTHER_SHARD}" in caught.value.hint


def test_a_shard_of_an_old_ledger_is_known_and_one_that_only_began_is_too(lake: Lake) -> None:
    lake.next_writer()
    lake.block(run_of(10, 12, 9))
    assert len(numbers(lake.store, shards="1")) == 9
    lake.add(session_at("TRIM_HORIZON", shard="shardId-000000000002", session="s3"))
    assert numbers(lake.store, shards="2") == []


def test_a_column_that_there_is_not_is_refused_with_those_there_are(lake: Lake) -> None:
    for columns, said in (([], "no column"), ("dat", "'dat'"), (["data", "x"], "'x'")):
        with pytest.raises(ConfigError, match=said) as caught:
            read(lake.store, columns=columns)
        assert "sub_sequence_number" in caught.value.hint
    assert read(lake.store, columns="data").schema.names == ["data"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "9"], f"the shards in the store are: {SHARD}, {OTHER_SHARD}"),
        (["--after", "9=5"], "nothing is stored of shardId-000000000009"),
        (["--after", "=5"], "write SHARD=SEQUENCE:SUB"),
        (["--columns", ""], "there is no column ''"),
        (["--since", "2999-01-01"], "still to come"),
        (["--since", "tomorrow"], "'--since': 'tomorrow' is neither a time"),
        (["--hole-timeout", "nan"], "seconds"),
    ],
)
def test_the_command_refuses_what_would_silently_give_nothing(
    lake: Lake, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run_cli(["read", "--store", lake.store.url, *options]) == 2
    assert said in capsys.readouterr().err


def test_recover_takes_shards_and_blocks_that_there_are_and_no_others(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.block(run_of(10, 12, 9))
    lake.kept(2).remove()
    missing, there = lake.blocks[1].block, lake.blocks[0].block
    base = ["recover", "--store", lake.store.url, "--dry-run"]
    assert run_cli([*base, "--shard", "0", "--block", missing]) == 1
    assert missing in capsys.readouterr().out
    assert run_cli([*base, "--shard", "1", "--block", there]) == 0
    capsys.readouterr()
    for options, said in (
        (["--shard", "7"], "nothing is stored of shardId-000000000007"),
        (["--block", "x"], "not a block id: 'x'"),
        (["--block", there[:-1] + "9"], "no ledger names it"),
    ):
        assert run_cli([*base, *options]) == 2
        assert said in capsys.readouterr().err


def test_the_command_takes_shards_as_status_shows_them(lake: Lake, capfdbinary: Any) -> None:  # noqa: ANN401
    assert run_cli(["read", "--store", lake.store.url, "--shard", "0", "--after", "0=5"]) == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(row["shard_id"], row["sequence_number"]) for row in rows] == [(SHARD, str(at)) for at in range(6, 10)]


def test_a_carriage_return_in_csv_breaks_no_row(tmp_path: Path, capfdbinary: Any) -> None:  # noqa: ANN401
    made = Lake(local_store(tmp_path / "store"))
    rows = [
        (at, 0, key, NOW, data) for at, (key, data) in enumerate([(b"a\rb", b"c"), (b"d", b"\r"), (b"e", b"x,\ry")], 1)
    ]
    columns = columns_of(rows)
    made.block(BlockRange(range_of(columns), columns))
    assert run_cli(["read", "--store", made.store.url, "--format", "csv", "--columns", "partition_key,data"]) == 0
    text = capfdbinary.readouterr().out.decode()
    for newline in ("", None):  # None: every carriage return is a line end, as it is to most readers
        found = [*csv.reader(io.StringIO(text, newline=newline))][1:]
        assert [len(row) for row in found] == [3, 3, 3]
    exact = [*csv.reader(io.StringIO(text, newline=""))][1:]
    assert [row[:2] for row in exact] == [["a\rb", "c"], ["d", "\r"], ["e", "x,\ry"]]


def test_the_picture_is_svg_and_nothing_else(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["verify", "--store", lake.store.url, "--plot", str(tmp_path / "x.png")]) == 2
    assert "name a file that ends in .svg" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
