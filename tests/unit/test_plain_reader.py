"""docs/format.md says enough to write a reader: the one that was written from it finds what ours finds."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maintenance_support import SMALL, fill, part, run
from plain_reader import PlainReader, Row
from store_support import NOW, begin, local_store, root_of

from kcl_receiver import records
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.store import Store

HOUR = 3_600_000
PART = st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(1, 6))
BLOCKS = st.lists(st.lists(PART, min_size=1, max_size=4), min_size=1, max_size=6)
STEP = st.one_of(
    st.tuples(st.just("store"), BLOCKS),
    st.tuples(st.just("seal"), st.none()),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("expire"), st.integers(1, 20)),
)


def ours(store: Store) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = defaultdict(list)
    for one in records(store, on_hole=lambda hole: None):
        arrived = -1 if one.arrived is None else round(one.arrived.timestamp() * 1000)
        at = one.position
        out[one.shard].append(((at.sequence_number, at.sub_sequence_number), one.partition_key, arrived, one.data))
    return dict(out)


@settings(max_examples=40, deadline=None)
@given(BLOCKS, st.lists(STEP, max_size=5))
def test_a_reader_that_was_written_from_the_page_finds_the_same_records_and_links(
    first: list[list[tuple[int, int, int]]], steps: list[tuple[str, object]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = local_store(Path(folder) / "store")
        store.claim("landing")
        now, writers = NOW, 0
        for kind, what in [("store", first), *steps]:
            now += 2 * HOUR
            if kind in ("store", "seal"):
                writers += 1
                writer = writer_id(NOW + writers * 1000, f"{writers:08x}")
                if kind == "seal":
                    begin(store, writer)
                else:
                    fill(store, [[part(*one) for one in dict.fromkeys(block)] for block in what], writer)  # type: ignore[attr-defined]
            elif kind == "compact":
                run(store, SMALL, now)
            else:
                store.hold_maintenance()
                list(Expiry(store, NOW + what).run(now))  # type: ignore[operator]
        plain = PlainReader(root_of(store))
        found = {
            shard: sorted(row for row in rows if not plain.expired(shard, row[0]))
            for shard, rows in ours(store).items()
        }
        assert plain.rows == {shard: rows for shard, rows in found.items() if rows}
        report = {one.shard: one for one in verify_store(store).shards}
        assert plain.chains == {shard: len(one.spans) for shard, one in report.items() if one.spans}


def test_it_finds_what_is_not_as_it_was_written(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    store.claim("landing")
    (entry,) = fill(store, [[part(0, 1, 5)]])
    path = tmp_path / block_path(entry.block)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"data-3", b"data-X"))
    with pytest.raises(ValueError, match="another checksum"):
        PlainReader(tmp_path)
    path.write_bytes(whole)
    (ledger,) = (tmp_path / "ledger").glob("*/*.jsonl")
    ledger.write_bytes(ledger.read_bytes().replace(b'"count":5', b'"count":6'))
    with pytest.raises(ValueError, match="is not as it was written"):
        PlainReader(tmp_path)
