from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_support import BASE, Put, aggregated, altered, columns_of, plain, range_of, request_of, rows, users_of

from kcl_receiver.kinesis.rebuild import Outcome, Rebuilding, Request, Reread
from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import checksum

HALF = ("0", str(2**127 - 1))
LOW, HIGH = 5, 2**127


def collect(request: Request, puts: list[Put]) -> Rebuilding:
    one = Rebuilding(request)
    for put in puts:
        if one.first <= put.sequence <= one.last:
            one.add(put.record)
    return one


def rebuilt(request: Request, puts: list[Put]) -> Reread:
    found = collect(request, puts).rebuilt()
    assert found is not None
    return found


PUTS = st.lists(
    st.tuples(
        st.sampled_from(["plain", "aggregated", "empty"]), st.lists(st.binary(max_size=9), min_size=1, max_size=4)
    ),
    min_size=1,
    max_size=6,
).map(
    lambda kinds: [
        plain(7 * place, data[0])
        if kind == "plain"
        else aggregated(7 * place, *data)
        if kind == "aggregated"
        else aggregated(7 * place, b"", key="k", hash_key=2**128)  # KCL drops it everywhere
        for place, (kind, data) in enumerate(kinds)
    ]
)


def delivered(puts: list[Put]) -> list[Put]:
    """Return what the daemon delivers anything of."""
    return [put for put in puts if put.users != (("k", b""),)]


@given(PUTS, st.data())
def test_any_part_of_a_delivery_is_rebuilt_as_the_processor_sent_it(puts: list[Put], draw: st.DataObject) -> None:
    users = users_of(delivered(puts))
    if not users:
        return
    start = draw.draw(st.integers(0, len(users) - 1))
    stop = draw.draw(st.integers(start + 1, len(users)))
    found = rebuilt(Request(range_of(users[start:stop])), puts)
    assert (found.outcome, found.found, found.detail) == (Outcome.REBUILT, stop - start, "")
    assert found.columns is not None
    assert rows(found.columns) == users[start:stop]
    assert list(map(bytes, found.columns.buffers())) == list(map(bytes, columns_of(users[start:stop]).buffers()))


def test_a_record_without_an_arrival_time_is_rebuilt() -> None:
    put = plain(0)
    unknown = Put(put.sequence, -1, put.key, put.data, put.users)
    assert rebuilt(request_of([unknown]), [unknown]).columns is not None


@pytest.mark.parametrize(
    ("puts", "outcome", "found"),
    [
        ([plain(0), plain(1)], Outcome.COUNT_DIFFERS, 2),
        ([plain(0), plain(1), plain(2), plain(3)], Outcome.COUNT_DIFFERS, 4),
        ([plain(0), plain(1, b"dato"), plain(3)], Outcome.CONTENT_DIFFERS, 3),
        ([plain(0), plain(1, b"longer data"), plain(3)], Outcome.CONTENT_DIFFERS, 3),
        ([plain(0), plain(1, key="key"), plain(3)], Outcome.CONTENT_DIFFERS, 3),
        ([plain(0), plain(2), plain(3)], Outcome.CONTENT_DIFFERS, 3),
        ([plain(0), aggregated(1, b"data", key="kéy"), plain(3)], Outcome.REBUILT, 3),
        ([plain(0), aggregated(1, b"data", b"data"), plain(3)], Outcome.COUNT_DIFFERS, 4),
        ([], Outcome.COUNT_DIFFERS, 0),
    ],
)
def test_it_says_which_of_count_and_content_differs(puts: list[Put], outcome: Outcome, found: int) -> None:
    one = collect(request_of([plain(0), plain(1), plain(3)]), puts)
    answer = one.rebuilt() or one.differs()
    assert (answer.outcome, answer.found) == (outcome, found)
    assert (answer.columns is None) is (outcome is not Outcome.REBUILT)


def test_another_arrival_time_is_another_content() -> None:
    put = plain(1)
    later = Put(put.sequence, put.arrival + 1, put.key, put.data, put.users)
    assert collect(request_of([put]), [later]).rebuilt() is None


def test_what_was_stored_while_kcl_did_not_know_the_shard_is_rebuilt_and_said() -> None:
    puts = [plain(0), aggregated(1, b"a", b"b", hash_key=HIGH), plain(2), aggregated(3, b"c", hash_key=LOW)]
    found = rebuilt(request_of(puts, hash_range=HALF), puts)
    assert rows(found.columns) == users_of(puts)
    assert "hash range" in found.detail


def test_what_kcl_dropped_for_the_hash_range_is_not_in_the_range() -> None:
    puts = [plain(0), aggregated(1, b"a", b"b", hash_key=HIGH), plain(2)]
    found = rebuilt(request_of([puts[0], puts[2]], hash_range=HALF), puts)
    assert rows(found.columns) == users_of([puts[0], puts[2]])
    assert not found.detail


def test_two_deliveries_of_one_place_that_differ_in_count_are_called_so() -> None:
    puts = [plain(0), aggregated(1, b"a", b"b", hash_key=HIGH), aggregated(2, b"c", hash_key=HIGH), plain(3)]
    answer = collect(request_of([*puts[:2], puts[3]], hash_range=HALF), puts).differs()
    assert answer.outcome is Outcome.COUNT_DIFFERS
    assert answer.detail.startswith(
        "two deliveries of the same place differ: 4 records were stored, the stream now gives 2"
    )
    assert "(5 with the aggregates that KCL drops" in answer.detail


def test_no_more_is_kept_than_the_range_says_that_it_holds() -> None:
    puts = [plain(place, b"x" * 100) for place in range(10)]
    one = Rebuilding(Request(altered(range_of(users_of(puts)), count=3)))
    for put in puts:
        one.add(put.record)
        assert len(one._delivery._pieces) <= 3
    assert one.differs().found == 10
    large = Rebuilding(Request(altered(range_of(users_of(puts)), size=350)))
    for put in puts:
        large.add(put.record)
        assert sum(len(data) for piece in large._delivery._pieces for data in piece.data) <= 350
    dropped = Rebuilding(Request(range_of(users_of(puts[:1] + puts[-1:])), HALF))
    for put in (puts[0], *(aggregated(1 + place, b"x", hash_key=HIGH) for place in range(8)), puts[-1]):
        dropped.add(put.record)
    assert dropped._undropped is not None
    assert not dropped._undropped._pieces
    assert dropped.rebuilt() is not None


def test_what_is_left_of_a_trimmed_range_is_given() -> None:
    puts = [plain(0), plain(1), plain(2)]
    answer = collect(request_of(puts), puts[1:]).trimmed()
    assert (answer.outcome, answer.found, rows(answer.columns)) == (Outcome.TRIMMED, 2, users_of(puts[1:]))
    assert "2 of 3" in answer.detail
    assert collect(request_of(puts), []).trimmed().columns is None


def test_a_range_is_complete_if_both_its_ends_were_seen_in_one_go() -> None:
    puts = [plain(0), plain(1), plain(2)]
    assert collect(request_of(puts), puts).is_complete
    assert not collect(request_of(puts), [puts[0], puts[2]]).is_complete, "some may have been trimmed in between"
    assert not collect(request_of(puts), puts[1:]).is_complete
    assert not collect(request_of(puts), puts[:2]).is_complete
    broken = collect(request_of(puts), puts)
    broken.broken = True
    assert not broken.is_complete


def test_a_range_of_one_record_in_the_middle_of_an_aggregate() -> None:
    put = aggregated(0, b"a", b"b", b"c")
    request = Request(range_of(users_of([put])[1:2]))
    assert request.range.first == request.range.last == Position(BASE, 1)
    found = rebuilt(request, [put])
    assert found.columns is not None
    assert checksum(found.columns) == request.range.checksum
