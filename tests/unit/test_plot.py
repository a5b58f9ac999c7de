"""The picture of a store: XML whatever the names are, nothing amiss too small to be seen, children below parents."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import NOW, SHARD, STREAM, WRITER, begin, block_range, local_store, put, session_at

from kcl_receiver.audit.report import EXPIRED, GAP, LOST, OVERLAP, PROVEN, STORED, Report, ShardReport, Stretch
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import EXIT_ENVIRONMENT, EXIT_OK
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.store.ledger.entries import SessionStarted
from kcl_receiver.store.store import Store
from kcl_receiver.views.plot import AMISS, MEANINGS, MIN_WIDTH, draw, rows_of
from kcl_receiver.views.plot_axis import LABELS, STEPS, Axis, moment

HOUR = 3_600_000
SVG = "{http://www.w3.org/2000/svg}"
Sessions = dict[tuple[StreamIdentity, str], list[SessionStarted]]


def shard_id(number: int) -> str:
    return f"shardId-{number:012d}"


def shard(number: int | str, *stretches: Stretch, state: str = PROVEN, stream: StreamIdentity = STREAM) -> ShardReport:
    name = shard_id(number) if isinstance(number, int) else number
    nothing = (0, 0, 0, None, None, -1, -1, False, (), (), ())
    return ShardReport(stream, name, state, *nothing, timeline=stretches)  # type: ignore[arg-type]


def report(*shards: ShardReport, url: str = "file:///data") -> Report:
    return Report(url, "landing", shards=list(shards), blocks=3)


def stored(begin_hour: float = 0, end_hour: float = 24) -> Stretch:
    return Stretch(STORED, NOW + round(begin_hour * HOUR), NOW + round(end_hour * HOUR), 100)


def picture(what: Report, sessions: Sessions | None = None) -> ET.Element:
    return ET.fromstring(draw(what, sessions or {}).encode())


def bars(root: ET.Element, kind: str) -> list[ET.Element]:
    return [one for one in root.iter(f"{SVG}rect") if one.get("class") == kind and one.find(f"{SVG}title") is not None]


def tips(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}title")]


@pytest.mark.parametrize("kind", sorted(AMISS))
@pytest.mark.parametrize("shards", [1, 8, 64])
def test_what_is_amiss_for_a_few_milliseconds_in_a_year_is_seen(kind: str, shards: int) -> None:
    small = Stretch(kind, NOW + 5000 * HOUR, NOW + 5000 * HOUR + 3, 0)  # type: ignore[arg-type]
    root = picture(report(*(shard(number, stored(0, 9000), small) for number in range(shards))))
    found = bars(root, {"possibly trimmed": "trimmed"}.get(kind, kind))
    assert len(found) == shards
    for one in found:
        assert float(one.get("width", "0")) >= MIN_WIDTH[kind] >= 3
        assert float(one.get("height", "0")) >= 10
        middle = float(one.get("x", "0")) + float(one.get("width", "0")) / 2
        assert 0.5 < middle / 1280 < 0.6


def test_each_kind_has_a_look_a_legend_and_a_tip() -> None:
    stretches = [Stretch(kind, NOW + at * HOUR, NOW + (at + 1) * HOUR, 7) for at, kind in enumerate(MEANINGS)]  # type: ignore[arg-type]
    text = draw(report(shard(0, *stretches)), {})
    root = ET.fromstring(text.encode())
    for kind, words in MEANINGS.items():
        look = {"possibly trimmed": "trimmed"}.get(kind, kind)
        assert len(bars(root, look)) == 1
        assert re.search(rf"^\.{look} \{{ fill: ", text, re.MULTILINE)
        assert f">{words}</text>" in text
        assert any(tip.startswith(f"{words}, 7 records, ") for tip in tips(root))
    # Colour alone tells nobody anything: all but the plain one have a pattern.
    assert len(re.findall(r"<pattern id=", text)) == len(MEANINGS) - 1


def test_what_lies_on_top_is_what_is_amiss() -> None:
    stretches = [Stretch(LOST, NOW, NOW + HOUR, 1), Stretch(GAP, NOW, NOW, 0), stored(), Stretch(EXPIRED, NOW, NOW, 1)]
    root = picture(report(shard(0, *stretches)))
    order = [one.get("class") for one in root.iter(f"{SVG}rect") if one.find(f"{SVG}title") is not None]
    assert order == ["expired", "stored", "gap", "lost"]


def test_stretches_that_nobody_could_tell_apart_are_drawn_as_one_with_their_number() -> None:
    many = [Stretch(OVERLAP, NOW + at, NOW + at + 1, 2) for at in range(0, 5000, 5)]
    root = picture(report(shard(0, stored(), *many)))
    (one,) = bars(root, "overlap")
    assert (one.findtext(f"{SVG}title") or "").startswith("1,000 times: stored more than once, 2,000 records, ")


@pytest.mark.parametrize(("begin_ms", "end_ms"), [(-1, NOW + HOUR), (NOW + HOUR, -1), (-1, -1)])
def test_a_gap_without_an_end_is_drawn_where_its_other_end_is(begin_ms: int, end_ms: int) -> None:
    root = picture(report(shard(0, stored(), Stretch(GAP, begin_ms, end_ms, 0))))
    (one,) = bars(root, "gap")
    left, right = float(one.get("x", "0")), float(one.get("x", "0")) + float(one.get("width", "0"))
    (bar,) = bars(root, "stored")
    place = float(bar.get("x", "0")) + float(bar.get("width", "0")) / 24
    assert right - left == MIN_WIDTH[GAP]
    if end_ms >= 0:
        assert right == pytest.approx(place, abs=0.2)
    elif begin_ms >= 0:
        assert left == pytest.approx(place, abs=0.2)
    assert any("?" in tip for tip in tips(root))


def sessions_of(*lineage: tuple[int, tuple[int, ...]], times: int = 1) -> Sessions:
    return {
        (STREAM, shard_id(child)): [
            replace(session_at(shard=shard_id(child), time=NOW + at * HOUR), parents=tuple(map(shard_id, parents)))
            for at in range(times)
        ]
        for child, parents in lineage
    }


def test_children_stand_below_their_parents_and_a_merged_one_below_both() -> None:
    shards = [shard(number, stored()) for number in range(6)]
    sessions = sessions_of((2, (0,)), (3, (0,)), (4, (3, 1)), (5, (9,)))
    rows = rows_of(shards, sessions)
    assert [int(row.report.shard[-3:]) for row in rows] == [0, 2, 3, 1, 4, 5]
    assert [row.depth for row in rows] == [0, 1, 1, 0, 2, 0]
    assert len(picture(report(*shards), sessions).findall(f".//{SVG}path[@class='line']")) == 4


@given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=10))
def test_every_shard_has_one_row_whatever_parents_are_named(lineage: dict[int, tuple[int, ...]]) -> None:
    rows = rows_of([shard(number) for number in range(10)], sessions_of(*lineage.items()))
    assert sorted(row.report.shard for row in rows) == [shard_id(number) for number in range(10)]
    at = {row.report.shard: place for place, row in enumerate(rows)}
    rising = all(parent < child for child, parents in lineage.items() for parent in parents)
    if rising:
        assert all(at[parent] < at[row.report.shard] for row in rows for parent in row.parents)


def test_restarts_are_ticks() -> None:
    root = picture(report(shard(0, stored())), sessions_of((0, ()), times=3))
    assert len([tip for tip in tips(root) if tip.startswith("a session began ")]) == 3


NASTY = "<b>&\"'\x00\x1b]]>\ud800\ufffe日"


@settings(max_examples=40)
@given(st.text(st.characters(), max_size=20), st.lists(st.integers(-1, 2**45), min_size=6, max_size=6))
def test_the_picture_is_xml_whatever_names_and_times_are(name: str, times: list[int]) -> None:
    begins, ends = times[:3], [max(pair) for pair in zip(times[:3], times[3:], strict=True)]
    stretches = [Stretch(kind, begins[at], ends[at], 1) for at, kind in enumerate((STORED, GAP, LOST))]  # type: ignore[arg-type]
    for one in (name, NASTY, NASTY + name):
        made = report(shard(one, *stretches), url=f"file:///{one}")
        made.application = one
        other = shard(one, stream=StreamIdentity(one, 5))
        made.shards.append(other)
        sessions = {(STREAM, one): [replace(session_at(shard=one), parents=(NASTY, one))]}
        root = ET.fromstring(draw(made, sessions).encode())
        assert root.tag == f"{SVG}svg"
        for bar in root.iter(f"{SVG}rect"):
            assert float(bar.get("width", "0")) > 0


def test_a_store_without_shards_has_a_picture() -> None:
    assert "no shard has been read yet" in draw(report(), {})


@given(st.integers(0, 2**42), st.integers(0, 2**42))
def test_an_axis_has_some_labels_and_never_too_many(begin_ms: int, length: int) -> None:
    ticks = list(Axis(begin_ms, begin_ms + length, 100, 1000).ticks())
    assert len(ticks) <= LABELS + 1 or length > LABELS * STEPS[-1]
    assert all(99 <= at <= 1001 for at, _ in ticks)


def test_a_moment_has_parts_of_a_second_only_where_there_are_some() -> None:
    assert moment(NOW) == "2026-11-22 13:15:01Z"
    assert moment(NOW + 7) == "2026-11-22 13:15:01.007Z"


# ---------------------------------------------------------------------- the command


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = local_store(tmp_path / "store")
    made.claim("landing")
    ledger = begin(made, WRITER)
    ledger.append([session_at(), put(made, 1, block_range(1, 2)), put(made, 2, block_range(5, 6, after=Position(2)))])
    return made


def test_the_command_draws_the_store(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "store.svg"
    file.write_text("what was there before")
    assert run_cli(["verify", "--store", store.url, "--plot", str(file)]) == EXIT_OK
    root = ET.fromstring(file.read_bytes())
    assert any(tip.startswith(f"{SHARD}: proven") for tip in tips(root))
    assert any(tip.startswith("a session began ") for tip in tips(root))
    assert bars(root, "stored")
    assert [one.name for one in tmp_path.iterdir() if one.name != "store"] == ["store.svg"]


def test_a_picture_that_cannot_be_written_is_an_error_that_says_so(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_cli(["verify", "--store", store.url, "--plot", str(tmp_path / "nowhere" / "store.svg")])
    assert code == EXIT_ENVIRONMENT
    assert "store.svg cannot be written: No such file or directory" in capsys.readouterr().err
