"""The benchmarks: their arithmetic, the lines that they play, and that a wrong result has no figures."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import __main__ as every
from benchmarks import latency, lines
from benchmarks.harness import cells as cells_module
from benchmarks.harness import command, machine
from benchmarks.harness.cells import FORMS, Cell, CodeChanged, Plan, ResultsDirectory, collect
from benchmarks.harness.check import CheckFailed, check, compare
from benchmarks.harness.command import BEGIN, END, write_between_marks
from benchmarks.harness.contest import Run, Stage, iter_script, play
from benchmarks.harness.contestants import CONTESTANTS, PROGRAMS, Contestant, Drop, KclpyNoop, KclpyParquet, Receiver
from benchmarks.harness.figures import Spread, number, percentile, ratios, table
from benchmarks.harness.pace import Pace
from benchmarks.harness.player import EMPTY, SHUTDOWN_REQUESTED, PlayFailed, Say
from benchmarks.harness.process import Cost, Process, ProcessFailed
from benchmarks.harness.workload import PAYLOADS, SIZES, Line, ShardLines, Workload, prepare

TINY = Workload("200", "json", 2, 600, line_records=100)
RECORDED = Path(__file__).parent / "daemon_lines.jsonl"


# ---------------------------------------------------------------------- arithmetic


def test_a_spread_is_least_median_and_greatest() -> None:
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(1.0, 3.0, 5.0)
    assert Spread.of([4.0, 1.0]).middle == 2.5
    assert Spread.of([1234.0, 1.5, 20.04]).show() == "20.0 (1.50 to 1,230)"
    assert Spread.of([7.0]).show() == "7.00"
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_a_ratio_is_made_within_each_repeat_before_its_median_is_taken() -> None:
    # The second half hour was three times slower for both: the ratio is 0.5 all the same.
    assert ratios([1.0, 3.0, 1.0], [2.0, 6.0, 2.0]) == Spread(0.5, 0.5, 0.5)
    assert ratios([1.0, 9.0, 4.0], [1.0, 3.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="compared"):
        ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="nothing"):
        ratios([1.0], [0.0])


@pytest.mark.parametrize(
    ("percent", "expected"), [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)], ids=["p50", "p99", "p99.9"]
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1000, 0, -1)], percent) == expected


def test_a_percentile_of_too_few_values_is_none() -> None:
    assert percentile([1.0] * 999, 99.9) is None
    assert percentile([1.0] * 99, 99.0) is None
    assert percentile([1.0] * 100, 99.0) == 1.0
    assert percentile([], 50.0) is None


def test_numbers_keep_their_significant_digits() -> None:
    assert [number(one) for one in (0, None, 0.01234, 9.999, 98765.0)] == ["0", "-", "0.0123", "10.00", "98,800"]


def test_a_table_has_as_many_cells_in_every_row() -> None:
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
    with pytest.raises(ValueError, match="does not fit"):
        table(["a", "b"], [["1"]])


def test_tables_take_the_place_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    write_between_marks(page, "new \\1\n")
    assert page.read_text() == f"before\n{BEGIN}\nnew \\1\n\n{END}after\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        write_between_marks(page, "new")


def test_costs_are_of_the_work_and_of_all_processes_of_a_role() -> None:
    costs = (Cost("processor", 1.0, 0.5, 10), Cost("processor", 2.0, 0.5, 30), Cost("generator", 3.0, 1.0, 20))
    run = Run("kcl_receiver", 2_000_000, 4.0, 0.1, costs, 3, 1000, 2)
    assert (run.rate, run.cpu_per_million(), run.cpu_per_million("processor")) == (500_000, 3.0, 1.5)
    assert (run.start_cpu(), run.peak("processor"), run.peak("other")) == (2.0, 30, 0)
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


# ---------------------------------------------------------------------- lines


def rows_of(prepared: Sequence[ShardLines]) -> list[dict[str, Any]]:
    return [row for shard in prepared for page in shard.pages for row in page.to_pylist()]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("size", SIZES)
def test_lines_hold_what_will_be_expected_and_every_record_is_distinct(size: str, payload: str) -> None:
    prepared = prepare(Workload(size, payload, 3, 100 if size == "10000" else 4_000))
    assert [one.shard for one in prepared] == [f"shardId-00000000000{number}" for number in range(3)]
    for shard in prepared:
        last = (0, 0)
        for line, page in zip(shard.lines, shard.pages, strict=True):
            said = json.loads(line.content)
            assert len(said["records"]) == line.count == page.num_rows
            for record, row in zip(said["records"], page.to_pylist(), strict=True):
                position = int(record["sequenceNumber"]), record["subSequenceNumber"]
                assert position > last
                last = position
                assert position == (int(row["sequence_number"]), row["sub_sequence_number"])
                assert record["approximateArrivalTimestamp"] == row["arrival"]
                assert record["partitionKey"] == row["partition_key"]
            assert last == line.last
    rows = rows_of(prepared)
    assert len({row["data"] for row in rows}) == len(rows) == sum(one.records for one in prepared)
    assert sum(one.data_bytes for one in prepared) == sum(len(row["data"]) for row in rows)
    assert len({len(row["sequence_number"]) for row in rows}) == 1, "text must sort as numbers do"
    if size != "mixed":
        assert {len(row["data"]) for row in rows} == {SIZES[size]}
    if payload == "json":
        assert all(isinstance(json.loads(row["data"]), dict) for row in rows[:50])


def test_lines_have_the_keys_of_the_daemon_s_own_lines_in_their_order() -> None:
    recorded = next(said for said in map(json.loads, RECORDED.read_bytes().split(b"\n")) if said.get("records"))
    played = json.loads(prepare(Workload("200", "json", 1, 1))[0].lines[0].content)
    assert list(played) == list(recorded)
    assert list(played["records"][0]) == list(recorded["records"][0])


def test_a_line_is_a_page_of_getrecords() -> None:
    assert [line.count for line in prepare(Workload("200", "json", 1, 25_000))[0].lines] == [10_000, 10_000, 5_000]
    (shard,) = prepare(Workload("10000", "random", 1, 2_000))
    assert [line.count for line in shard.lines] == [1_048, 952]


def test_user_records_of_one_aggregate_share_their_sequence_number_and_count_up() -> None:
    (shard,) = prepare(Workload("20-aggregated", "json", 1, 4_000))
    rows = rows_of([shard])
    sequences = list(dict.fromkeys(row["sequence_number"] for row in rows))
    assert len(sequences) == 3
    subs = [row["sub_sequence_number"] for row in rows]
    assert subs == [*range(1_750), *range(1_750), *range(500)]


def test_a_workload_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no such workload"):
        prepare(Workload("7", "json", 1, 10))
    with pytest.raises(ValueError, match="do not reach"):
        prepare(Workload("200", "json", 11, 10))


# ---------------------------------------------------------------------- the check


def stored(shard: ShardLines, change: Callable[[list[dict[str, Any]]], None]) -> pa.Table:
    rows = shard.expected().to_pylist()
    change(rows)
    return pa.Table.from_pylist(rows, shard.expected().schema)


def altered(name: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[7].update({name: value})


def test_the_same_records_in_another_order_pass() -> None:
    shard = prepare(TINY)[0]
    compare(shard, stored(shard, lambda rows: rows.reverse()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(7), "of 300 records 1 are missing"),
        (lambda rows: rows.append(rows[7]), "1 are stored more than once"),
        (lambda rows: rows.__setitem__(7, rows[8]), "1 are missing"),
        (lambda rows: rows.append({**rows[7], "sequence_number": "4" + rows[7]["sequence_number"][1:]}), "more than"),
        (altered("data", b"other"), "1 records differ in data"),
        (altered("partition_key", "other"), "1 records differ in partition_key"),
        (altered("arrival", 1), "1 records differ in arrival"),
        (altered("sequence_number", "5" * 56), "1 were never played"),
        (lambda rows: rows.clear(), "300 are missing"),
    ],
    ids=["dropped", "doubled", "replaced", "doubled again", "data", "key", "arrival", "foreign", "nothing"],
)
def test_a_wrong_result_fails_the_check(change: Callable[[list[dict[str, Any]]], None], said: str) -> None:
    shard = prepare(TINY)[0]
    with pytest.raises(CheckFailed, match=said):
        compare(shard, stored(shard, change))


def tampered(prepared: Sequence[ShardLines], change: Callable[[list[Any]], None]) -> list[ShardLines]:
    """Return the lines with another list of records in the second line of the last shard; what is expected stays."""
    *others, last = prepared
    said = json.loads(last.lines[1].content)
    change(said["records"])
    content = json.dumps(said).encode() + b"\n"
    changed = [last.lines[0], Line(content, len(said["records"]), last.lines[1].last), *last.lines[2:]]
    return [*others, dataclasses.replace(last, lines=changed)]


def drop_one(records: list[Any]) -> None:
    del records[50]


def double_one(records: list[Any]) -> None:
    records.insert(50, records[50])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a path short enough for a socket, as pytest's own may not be."""
    path = tmp_path / "c"
    path.mkdir()
    return path


@pytest.mark.parametrize("contestant", [*CONTESTANTS, Drop], ids=lambda one: one.__name__)
def test_a_tiny_run_of_each_contestant_passes_its_check(contestant: type[Contestant], directory: Path) -> None:
    made = contestant(directory, TINY.shards)
    run = play(made, prepare(TINY))
    assert (run.contestant, run.records) == (contestant.name, TINY.records)
    assert run.cpu_per_million("processor") > 0
    assert run.peak("processor") > 0
    assert (run.peak("generator") > 0) == (contestant is Receiver)
    assert (run.objects > 0) == (run.size > 0) == (contestant in (KclpyParquet, Receiver))
    assert (run.checkpoints >= TINY.shards) == (contestant is not Drop)


@pytest.mark.parametrize("change", [drop_one, double_one])
@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda one: one.__name__)
def test_a_record_dropped_or_doubled_on_the_way_fails_the_run(
    contestant: type[Contestant], change: Callable[[list[Any]], None], directory: Path
) -> None:
    prepared = prepare(TINY)
    # The receiver itself leaves at a record that comes twice; of the others the check finds it.
    failure: tuple[type[Exception], ...] = (CheckFailed,)
    if contestant is Receiver and change is double_one:
        failure = (PlayFailed,)
    with pytest.raises(failure):
        play(contestant(directory, TINY.shards), tampered(prepared, change), judge=prepared)


@pytest.mark.parametrize("row", [0, 99])
def test_a_no_op_that_saw_another_first_or_last_record_of_a_batch_fails_the_check(row: int, directory: Path) -> None:
    def alter(records: list[Any]) -> None:
        records[row]["data"] = "b3RoZXI="

    prepared = prepare(TINY)
    with pytest.raises(CheckFailed, match="not those that were played"):
        play(KclpyNoop(directory, TINY.shards), tampered(prepared, alter), judge=prepared)


def test_kclpy_begins_a_new_file_after_its_time_and_stores_no_record_again(directory: Path) -> None:
    class AtOnce(KclpyParquet):
        """A file for every batch, as if each took a second."""

        def command(self, number: int) -> list[str]:
            program = "import sys, kclpy_parquet as it; it.FILE_SECONDS = 0; it.kcl.KCLProcess(it.ParquetFiles("
            return [sys.executable, "-c", program + "it.Path(sys.argv[1]))).run()", str(directory / "files")]

        def environment(self) -> dict[str, str]:
            return {"PYTHONPATH": str(PROGRAMS)}

    run = play(AtOnce(directory, TINY.shards), prepare(TINY))
    assert (run.objects, run.checkpoints) == (6, 6)


def test_the_clock_does_not_start_before_the_generator_has_opened_every_session(directory: Path) -> None:
    made = Receiver(directory, TINY.shards)
    asked: list[str] = []

    def slow_status() -> dict[str, Any]:
        """Say at first that one session is still opening."""
        asked.append("status")
        states = ["open", "open" if len(asked) > 3 else "opening"]
        return {"prepared": True, "shards": [{"state": state} for state in states]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "status", slow_status)
        with Stage(made):
            assert len(asked) == 4


@pytest.mark.parametrize("contestant", [KclpyParquet, Receiver], ids=lambda one: one.__name__)
def test_a_row_dropped_or_doubled_in_a_file_fails_the_check(contestant: type[Contestant], directory: Path) -> None:
    prepared = prepare(TINY)
    made = contestant(directory, TINY.shards)
    play(made, prepared)
    file = made.files()[0]
    table_ = pq.ParquetFile(file).read()
    pq.write_table(table_.slice(1), file)
    with pytest.raises(CheckFailed, match="1 are missing"):
        check(made, prepared)
    pq.write_table(pa.concat_tables([table_, table_.slice(5, 1)]), file)
    with pytest.raises(CheckFailed, match="1 are stored more than once"):
        check(made, prepared)
    pq.write_table(table_, file)
    check(made, prepared)


def test_rows_of_a_shard_that_was_never_played_fail_the_check(directory: Path) -> None:
    prepared = prepare(TINY)
    made = Receiver(directory, TINY.shards)
    play(made, prepared)
    file = made.files()[0]
    table_ = pq.ParquetFile(file).read()
    other = table_.slice(0, 1).set_column(0, table_.schema.field(0), pa.array(["shardId-other"], pa.string()))
    pq.write_table(pa.concat_tables([table_, other]), file)
    with pytest.raises(CheckFailed, match="do not account"):
        check(made, prepared)


def test_a_checkpoint_short_of_the_last_record_fails_the_check(directory: Path) -> None:
    prepared = prepare(TINY)
    made = KclpyNoop(directory, TINY.shards)
    play(made, prepared)
    made.peers[1].checkpoint = prepared[1].lines[0].last
    with pytest.raises(CheckFailed, match="is checkpointed at"):
        check(made, prepared)


# ---------------------------------------------------------------------- the daemon's part


CHILD = """
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if said["action"] == "processRecords":
        for answer in sys.argv[1:]:
            print(answer, flush=True)
            if '"checkpoint"' in answer:
                assert json.loads(sys.stdin.readline())["error"] is None
    print(json.dumps({"action": "status", "responseFor": said["action"]}), flush=True)
"""


class Scripted(Contestant):
    """A child that says given lines in every processRecords."""

    name = "scripted"
    answers: Sequence[str] = ()

    def command(self, number: int) -> list[str]:
        return [sys.executable, "-c", CHILD, *self.answers]


def checkpoint_at(sequence: int | None, sub: int | None = 0) -> str:
    text = None if sequence is None else str(sequence)
    return json.dumps({"action": "checkpoint", "sequenceNumber": text, "subSequenceNumber": sub})


def told(directory: Path, answers: Sequence[str]) -> Scripted:
    """Play two lines, which deliver up to 10 and 20, to a child with these answers."""
    contestant = Scripted(directory, 1)
    contestant.answers = answers
    with Stage(contestant) as stage:
        for last in (10, 20):
            stage.run(lambda _, last=last: iter_script([Say("processRecords", EMPTY.line, (last, 0))]))
    return contestant


def test_checkpoints_are_answered_and_remembered(directory: Path) -> None:
    peer = told(directory, [checkpoint_at(7), "", checkpoint_at(7)]).peers[0]
    assert (peer.checkpoint, peer.checkpoints) == ((7, 0), 4)


def test_a_bare_checkpoint_is_at_the_last_record_delivered(directory: Path) -> None:
    peer = told(directory, [checkpoint_at(None, None)]).peers[0]
    assert (peer.checkpoint, peer.checkpoints) == ((20, 0), 2)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([checkpoint_at(11)], "KCL refuses it"),
        ([checkpoint_at(10, 1)], "KCL refuses it"),
        ([checkpoint_at(9), checkpoint_at(8)], "KCL refuses it"),
        (["no json"], "this is no message"),
        (['{"action": "status", "responseFor": "leaseLost"}'], "processRecords was asked"),
        (['{"action": "other"}'], "processRecords was asked"),
    ],
    ids=["past what was delivered", "past its sub-sequence number", "back", "junk", "another action", "unknown"],
)
def test_a_processor_that_breaks_the_protocol_fails_the_run(directory: Path, answers: list[str], said: str) -> None:
    with pytest.raises(PlayFailed, match=said):
        told(directory, answers)


def test_a_processor_that_hangs_up_or_ends_badly_fails_the_run(directory: Path) -> None:
    class Gone(Scripted):
        def command(self, number: int) -> list[str]:
            return [sys.executable, "-c", "import sys; sys.exit('it broke')"]

    with pytest.raises(PlayFailed, match=r"hung up.*it broke"), Stage(Gone(directory, 1)):
        pass
    process = Process("processor", [sys.executable, "-c", "raise SystemExit(3)"], directory / "log")
    with pytest.raises(ProcessFailed, match="ended with 3"):
        process.wait()


def test_memory_and_cpu_are_the_child_s_own(directory: Path) -> None:
    ballast = bytearray(os.urandom(1)) * (300 * 2**20)  # what a child would be charged with by ru_maxrss
    process = Process("processor", ["cat"], directory / "log", spoken_with=True)
    process.start_clock()
    process.note_peak()
    process.hang_up()
    cost = process.wait()
    assert cost.peak < len(ballast) / 3
    assert 0 <= cost.cpu < 1


def test_a_checkpoint_covers_only_the_lines_up_to_it() -> None:
    (shard,) = prepare(Workload("200", "json", 1, 30, 10))
    pace = Pace([shard], interval=0.0, pause=None)
    pace.begin()
    peer: Any = SimpleNamespace(shard=shard.shard)
    script = pace.script(peer)
    for _ in range(3):
        assert isinstance(next(script), Say)
    pace.on_checkpoint(peer, (shard.lines[0].last[0] - 1, 0), 0.0)
    assert pace.uncovered == 3
    pace.on_checkpoint(peer, shard.lines[1].last, 0.0)
    assert (pace.uncovered, len(pace.latencies)) == (1, 2)


def test_paced_lines_are_seen_stored_one_by_one(directory: Path) -> None:
    prepared = prepare(dataclasses.replace(TINY, records=80, line_records=10))
    pace = Pace(prepared, interval=0.02, pause=0.005)
    settings = {"receiver.checkpointIntervalMillis": "0", "receiver.blockIntervalMillis": "50"}
    made = Receiver(directory, TINY.shards, settings)
    with Stage(made, pace.on_checkpoint) as stage:
        pace.begin()
        stage.run(pace.script)
        stage.run(lambda _: iter_script([SHUTDOWN_REQUESTED]))
        stage.let_go()
    check(made, prepared)
    assert (len(pace.latencies), len(pace.late), pace.uncovered) == (8, 8, 0)
    assert min(pace.latencies) > 0


# ---------------------------------------------------------------------- cells


class Counted:
    """A benchmark of one cell, which counts how often it is measured."""

    NAME = "counted"
    ABOUT = "counts"

    def __init__(self, **parameters: object) -> None:
        self.parameters = parameters
        self.measured = 0

    def cells(self, form: str) -> list[Cell]:
        return [Cell(f"a {form} cell", self.parameters, self.measure)]

    def measure(self, directory: Path) -> dict[str, Any]:
        self.measured += 1
        return {"times": self.measured}

    def tables(self, results: Sequence[Any]) -> str:
        return str([one.figures for one in results])


def test_a_cell_that_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("chosen", tmp_path / "results", tmp_path)
    monkeypatch.setattr(cells_module, "fingerprint", lambda _: "code 1")
    first = Counted(shards=(1, 2))
    for _ in range(2):
        results, left = collect(first, plan)
        assert ([one.figures for one in results], left) == ([{"times": 1}], [])
    other = Counted(shards=(1, 3))
    collect(other, plan)
    assert other.measured == 1, "other parameters are another cell"
    monkeypatch.setattr(cells_module, "fingerprint", lambda _: "code 2")
    collect(other, plan)
    assert other.measured == 2, "other code has other figures"
    collect(other, dataclasses.replace(plan, again=True))
    assert other.measured == 3


def test_what_fails_or_does_not_fit_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Counted):
        def measure(self, directory: Path) -> dict[str, Any]:
            raise CheckFailed("a record is missing")

    plan = Plan("chosen", tmp_path / "results", tmp_path)
    with pytest.raises(CheckFailed):
        collect(Failing(), plan)
    assert collect(Counted(), dataclasses.replace(plan, measure=False)) == ([], ["a chosen cell"])
    assert collect(Counted(), dataclasses.replace(plan, until=0.0)) == ([], ["a chosen cell"])
    assert collect(Counted(), dataclasses.replace(plan, only="another*")) == ([], [])
    versions = iter(["before", "after"])
    monkeypatch.setattr(cells_module, "fingerprint", lambda _: next(versions))
    with pytest.raises(CodeChanged):
        ResultsDirectory(plan.results).measure("counted", "chosen", Counted().cells("chosen")[0], tmp_path)
    assert not list(plan.results.rglob("*.json"))


@pytest.mark.parametrize("form", FORMS)
def test_every_benchmark_has_cells_in_every_form(form: str) -> None:
    limits = {"short": 5 * 60, "chosen": every.MINUTES * 60, "all": float("inf")}
    seconds = 0.0
    for module in every.MODULES:
        made = module.cells(form)
        names = [cell.name for cell in made]
        assert names
        assert len(set(names)) == len(names)
        json.dumps([cell.parameters for cell in made])
        seconds += sum(cell.seconds for cell in made)
    assert seconds <= limits[form]


def test_another_contestant_is_the_first_at_every_repeat() -> None:
    turns = [lines.in_turn(repeat) for repeat in range(3)]
    assert {turn[0] for turn in turns} == set(CONTESTANTS)
    assert all(set(turn) == set(CONTESTANTS) for turn in turns)


def test_a_measured_cell_gives_its_tables(tmp_path: Path) -> None:
    workload = Workload("10000", "random", 1, 30)
    figures = lines.measure(workload, 1, tmp_path)
    cell = Cell("tiny", {"workload": workload.to_json()}, lambda _: figures)
    result = ResultsDirectory(tmp_path / "results").measure(lines.NAME, "short", cell, tmp_path)
    text = lines.tables([result])
    for contestant in CONTESTANTS:
        assert f"| tiny | {contestant.name} |" in text
    assert "| tiny | the disk alone" in text


def test_a_latency_shows_no_percentile_that_it_cannot_know() -> None:
    seconds = [0.001 * value for value in range(1, 201)]
    figures = {"seconds": seconds, "lines": 200, "late": 0.3, "block_bytes": 1.0}
    load = {"load": 0.5, "rate": 1000.0, "stored": figures, "checkpointed": figures, "sync": [0.004] * 100}
    made = cells_module.Result("x", "short", {"interval": 0.2}, {}, "", 1.0, {"loads": [load]})
    row = next(line for line in latency.tables([made]).splitlines() if "| stored |" in line)
    assert "| 100 | 198 | - |" in row
    assert "NOT KEPT UP WITH" in row


def test_a_failed_check_ends_the_command_without_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Counted):
        NAME = "failing"

        def measure(self, directory: Path) -> dict[str, Any]:
            raise CheckFailed("a record is missing")

    monkeypatch.setattr(command, "check_installed", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--results", str(tmp_path / "results")])
    assert command.main([Counted(), Failing()], "about") == 1
    said = capsys.readouterr()
    assert (said.out, "CheckFailed: a record is missing" in said.err) == ("", True)
    assert command.main([Counted()], "about") == 0
    assert "[{'times': 1}]" in capsys.readouterr().out


def test_another_receiver_than_that_of_the_tree_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.check_installed()
    other = tmp_path / "kcl_receiver"
    other.mkdir()
    (other / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ProcessFailed, match="and not of"):
        machine.check_installed()
