"""Verify reads a store as a stream and keeps next to nothing; it is held against the plain way on random stores."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest import mock

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from naive_verify import Naive, naive_verify
from naive_verify import cover as naive_cover
from places import NewPlace, kept_block
from store_support import (
    HOUR,
    NOW,
    STREAM,
    block_range,
    end_at,
    mark,
    marks_at,
    plain_range,
    session_at,
    stored,
)

from kcl_receiver.audit.verify import Report, damage, verify_store
from kcl_receiver.horizon import Late, Times
from kcl_receiver.ids import block_day, block_id, writer_id
from kcl_receiver.proof import links as proof
from kcl_receiver.proof.coverage import Span, SpanSet, Taken, select, span_of
from kcl_receiver.proof.links import Cover, cover, see_times
from kcl_receiver.ranges import AT_TIMESTAMP, LATEST, TRIM_HORIZON, After, Position, Range
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Expired,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    WriterStarted,
)
from kcl_receiver.store.ledger.store_log import StoreLog, began
from kcl_receiver.store.ledger.transaction import COMPACT, EXPIRE, RECOVER, REPAIR, Transaction
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store

DAY = 86_400_000


class RandomStore:
    """A store to which all happens that can happen to one."""

    def __init__(self, store: Store, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = store
        self.store.claim("landing")
        self.made: dict[str, tuple[BlockStored, list[BlockRange]]] = {}
        self.retired: set[str] = set()
        self.next = {f"shardId-{number}": 10 for number in range(self.random.randint(1, 3))}
        self.after: dict[str, After] = {}
        self.session: dict[str, str] = {}
        self.began = NOW
        self.numbers = 0
        self.ledger: LedgerWriter
        self.adoptable: list[BlockStored] = []
        for _ in range(self.random.randint(1, 5)):
            self.generator()
        for _ in range(self.random.randint(0, 4)):
            self.random.choice([self.compact, self.recover, self.expire])()
        for _ in range(self.random.choice([0, 0, 1, 3])):
            self.harm()

    def generator(self) -> None:
        self.began += self.random.choice([1000, 60_000, DAY])
        self.writer = writer_id(self.began, f"{self.random.getrandbits(32):08x}")
        started = WriterStarted(self.writer, "h", 1, self.began, "0")
        log = StoreLog(self.store)
        closed = [*log.newest().state.living]
        for _ in closed:
            self.ledger.append([*self.adoptable, Closed(self.began, self.writer)])
        log.change(lambda state: began(state, started, closed, STREAM, {}))
        self.ledger = LedgerWriter(self.store, self.writer)
        self.ledger.append([started, Carried(STREAM)])
        self.adoptable = []
        if self.made and self.random.random() < 0.2:  # a ledger that was put back after `repair`: named twice
            twice = self.random.choice([entry for entry, _ in self.made.values()])
            repair = Transaction(self.store, twice.block, REPAIR, self.began)
            repair.add_block(twice, [])
            repair.commit()
        for shard in list(self.next):
            if self.random.random() < 0.8 or shard not in self.session:
                self.begin(shard)
        for _ in range(self.random.randint(0, 6)):
            self.block()
            if self.random.random() < 0.1:
                self.begin(self.random.choice(list(self.next)))
        if self.random.random() < 0.3:
            shard = self.random.choice(list(self.next))
            last = self.after.get(shard, TRIM_HORIZON)
            if self.random.random() < 0.7:
                self.ledger.append([ShardEnded(self.session[shard], shard, STREAM, last, self.began)])
            child = f"{shard}-{len(self.next)}"
            self.next[child] = 10
            self.ledger.append([session_at(shard=child, session=f"c{child}", parents=(shard,), time=self.began)])
            self.session[child] = f"c{child}"

    def begin(self, shard: str) -> None:
        back = self.random.choice([0, 0, 1, 2, 5, -3])
        reached = max(10, self.next[shard] - back)
        starting = reached == 10 or self.random.random() < 0.1
        after: After = self.random.choice([TRIM_HORIZON, AT_TIMESTAMP, LATEST]) if starting else Position(reached - 1)
        self.next[shard], self.after[shard] = reached, after
        self.session[shard] = f"s{self.random.getrandbits(30)}"
        line = session_at(after, session=self.session[shard], shard=shard, time=self.began)
        self.mark(shard)
        if self.random.random() < 0.9:
            self.ledger.append([line])
        else:  # its line comes after its ranges
            self.block([shard])
            self.ledger.append([line])

    def mark(self, shard: str) -> None:
        """Record how far some shard was read, or that a clock was late."""
        if self.random.random() < 0.5:
            return
        until = self.began + self.random.choice([-30, -1, 0, 20]) * HOUR
        session = self.session.get(shard, "s")
        late = [Late(self.began - HOUR, self.began + HOUR, 30 * HOUR)] if self.random.random() < 0.1 else ()
        reached = self.after.get(shard, TRIM_HORIZON)
        said = mark(reached, until, shard=shard, session=session, opened=until)
        sessions = [session] if late else ()
        self.ledger.append([marks_at(said, time=self.began, late=late, sessions=sessions)])

    def block(self, shards: list[str] | None = None) -> None:
        self.numbers += 1
        chosen = shards or self.random.sample(list(self.next), self.random.randint(1, len(self.next)))
        ranges = []
        for shard in chosen:
            if shard not in self.session:
                continue
            begin = self.next[shard] + self.random.choice([0, 0, 0, 2])
            end = begin + self.random.randint(1, 4)
            named = {"shard": shard, "after": self.after.get(shard, TRIM_HORIZON), "session": self.session[shard]}
            at = self.began + self.random.choice([0, 0, 0, 0, 1, 20, 25]) * HOUR
            ranges.append(block_range(*range(begin, end), **named, delivered=at))
            self.next[shard], self.after[shard] = end, Position(end - 1)
        if not ranges or self.random.random() < 0.05:
            return  # stored nowhere: a gap
        entry = self.put(block_id(self.writer, self.numbers), ranges)
        what = self.random.random()
        if what < 0.85:
            self.ledger.append([entry])
        elif what < 0.95:
            self.adoptable.append(replace(entry, time=0))

    def put(self, block: str, ranges: list[BlockRange]) -> BlockStored:
        entry = stored(self.store, block, ranges)
        self.made[block] = entry, ranges
        return entry

    def some(self) -> list[str]:
        days = sorted({block_day(block) for block in self.made if block not in self.retired})
        if not days:
            return []
        day = self.random.choice(days)
        blocks = sorted(block for block in self.made if block_day(block) == day and block not in self.retired)
        at = self.random.randrange(len(blocks))
        return blocks[at : at + self.random.randint(1, 4)]

    def replace_some(self, role: str, share: float) -> None:
        blocks = self.some()
        if not blocks:
            return
        transaction = Transaction(self.store, blocks[0], role, NOW, f"{self.random.getrandbits(32):08x}")
        kept = {one.range: one for block in blocks for one in self.made[block][1] if self.random.random() < share}
        if not kept:
            return
        new = self.put(transaction.next_block_id(), list(kept.values()))
        if self.random.random() < 0.2:
            return  # killed before its ledger was written
        transaction.add_block(new, [self.made[block][0] for block in blocks])
        transaction.commit()
        self.retired.update(blocks)
        if self.random.random() < 0.8:
            transaction.retire()

    def compact(self) -> None:
        self.replace_some(COMPACT, 1)

    def recover(self) -> None:
        self.replace_some(RECOVER, 0.7)

    def expire(self) -> None:
        blocks = self.some()
        if not blocks:
            return
        transaction = Transaction(self.store, blocks[0], EXPIRE, NOW, f"{self.random.getrandbits(32):08x}")
        transaction.add_expired(Expired(NOW + 5, NOW + 4, tuple(blocks)))
        transaction.commit()
        self.retired.update(blocks)
        if self.random.random() < 0.8:
            transaction.retire()

    def harm(self) -> None:
        present = [block for block, _ in self.store.list_blocks()]
        if not present:
            return
        kept = kept_block(self.store, self.random.choice(present))
        if self.random.random() < 0.6:
            kept.remove()
        else:
            content = kept.read()
            kept.write(content[:-6] + b"??" + content[-4:])


def compared(report: Report, naive: Naive) -> None:
    assert {(one.stream, one.shard) for one in report.shards} == set(naive.shards)
    for one in report.shards:
        other = naive.shards[one.stream, one.shard]
        assert (one.records, one.duplicates, one.blocks) == (other.records, other.duplicates, other.blocks)
        assert list(one.gaps) == other.gaps
        assert list(one.possibly_trimmed) == other.possibly_trimmed
        assert SpanSet(lost.span for lost in one.lost).spans() == other.lost
        assert one.state == other.state
    assert (report.missing, sorted(report.damaged), report.orphans) == (naive.missing, naive.damaged, naive.orphans)


@settings(max_examples=75, deadline=None)
@given(st.integers(0, 2**40))
def test_a_store_read_as_a_stream_is_judged_as_one_read_whole(new_quick_place: NewPlace, seed: int) -> None:
    made = RandomStore(new_quick_place()(), seed)
    naive = naive_verify(made.store)
    compared(verify_store(made.store), naive)
    made.store.objects.near = not made.store.objects.near  # with threads where there were none, and the other way
    compared(verify_store(made.store), naive)
    with mock.patch.object(proof, "MANY", 2), mock.patch.object(Taken.__init__, "__defaults__", (1,)):
        compared(verify_store(made.store), naive)  # most of it does not fit, and is looked for a second time
    found = {one.block: one for one in damage(made.store)}
    for block, lost in naive.damage.items():
        assert found[block].ranges_lost == lost
        assert found[block].why == ("missing" if block in naive.missing else "damaged")
        assert found[block].entry.ranges == made.made[block][0].ranges
    assert list(found) == sorted(found)
    for block in found.keys() - naive.damage.keys():
        assert "replaced" in found[block].detail
    lost = SpanSet(span_of(one) for each in found.values() for one in each.ranges_lost)
    assert not [part for each in naive.shards.values() for span in each.lost for part in lost.missing(span)]


positions = st.integers(1, 30)


hours = st.sampled_from([-30, -24, -1, 0, 0, 0, 1, 20, 24, 25, 47, 49])
names = st.sampled_from(["s1", "s2", "s3"])
starts = st.sampled_from([TRIM_HORIZON, AT_TIMESTAMP, LATEST])
places = st.one_of(positions, starts)

History = tuple[list[Range], list[SessionStarted], ShardEnded | None, list[MarksTaken], int | None]


@st.composite
def shard_histories(draw: st.DrawFn) -> History:
    ranges = [
        plain_range(first, first + length, after, session=session, at=NOW + at * HOUR, arrived=NOW + came * HOUR)
        for first, length, after, session, at, came in draw(
            st.lists(st.tuples(positions, st.integers(0, 6), places, names, hours, hours))
        )
    ]
    sessions = [
        session_at(after, session=session, time=NOW + at * HOUR, begins=NOW + begins * HOUR)
        for after, session, at, begins in draw(st.lists(st.tuples(places, names, hours, hours), max_size=5))
    ]
    marks = [
        marks_at(
            *(mark(place, NOW + until * HOUR, session=session) for place, until, session in some),
            time=NOW + at * HOUR,
            hours=retention,
            late=[Late(NOW, NOW + 2 * HOUR, by * HOUR)] if by else (),
            sessions=["s2"] if by else (),
        )
        for some, at, retention, by in draw(
            st.lists(
                st.tuples(
                    st.lists(st.tuples(places, hours, names), max_size=3),
                    hours,
                    st.sampled_from([24, 24, 24, 48]),
                    st.sampled_from([0, 0, 0, 23, 30]),
                ),
                max_size=4,
            )
        )
    ]
    end = draw(st.one_of(st.none(), st.builds(lambda last, at: end_at(last, time=NOW + at * HOUR), places, hours)))
    opened = draw(st.one_of(st.none(), hours.map(lambda at: NOW + at * HOUR)))
    return ranges, sessions, end, marks, opened


@settings(max_examples=400)
@given(shard_histories())
def test_ranges_taken_in_one_at_a_time_prove_what_they_prove_together(history: History) -> None:
    assert cover(*history) == naive_cover(*history)


@settings(max_examples=200)
@given(shard_histories(), st.randoms(use_true_random=False), st.sampled_from([2, 256]))
def test_the_order_of_all_entries_and_what_is_forgotten_change_nothing(
    history: History, order: random.Random, kept: int
) -> None:
    ranges, sessions, ended, marks, opened = history
    assume(ranges or sessions)  # else nothing is known of the shard
    mixed: list[Range | SessionStarted | MarksTaken] = [*ranges, *sessions, *marks]
    order.shuffle(mixed)
    times = Times()
    seen = [(one.measured, one.retention_hours) for one in marks]
    for time, of in sorted([*seen, *((one.time, one.retention_hours) for one in sessions)]):
        times.retention.see(time, of)
    for entry in marks:
        see_times(times, entry)

    def take(found: Cover, *, again: bool) -> None:
        for one in mixed:
            if isinstance(one, Range):
                (found.see_range if again else found.add_range)(one)
            elif isinstance(one, MarksTaken):
                for said in one.marks:
                    (found.see_mark if again else found.add_mark)(said, one.time)
            elif not again:
                found.add_session(one)

    with mock.patch.object(proof, "MANY", 1):
        found = Cover(times, kept)
        take(found, again=False)
        if ended is not None:
            found.add_end(ended)
        if found.asked():
            found.look_again()
            take(found, again=True)
            found.seen()
        proven = found.coverage(ended.last if ended else None, opened)
    in_order = [one for one in mixed if isinstance(one, SessionStarted)]
    assert proven == naive_cover(ranges, in_order, ended, marks, opened)


@settings(max_examples=200)
@example([(5, 0), (9, 0), (1, 0), (9, 0)])
@given(st.lists(st.tuples(positions, st.integers(0, 6))))
def test_what_is_taken_near_the_newest_is_what_select_says(bounds: list[tuple[int, int]]) -> None:
    spans = [span_of(plain_range(first, first + length)) for first, length in bounds]
    ranges = [(plain_range(first, first + length), "b") for first, length in bounds]
    whole, quick = Taken(), Taken()
    assert [tuple(whole.take(one.first, one.last) or ()) for one, _ in ranges] == [one.parts for one in select(ranges)]
    for said in select(ranges):
        first, last = said.range.first, said.range.last
        parts = [span_of(said.range)] if quick.take_next(first, last) else quick.take(first, last)
        assert parts == list(said.parts)
    near = Taken(keep=1)
    taken = SpanSet()
    for span in spans:
        first, last = span.low.position, span.high.position
        parts = [span] if near.take_next(first, last) else near.take(first, last)
        if parts is not None:
            assert parts == taken.missing(span)
            taken.add(span)


@given(st.lists(st.tuples(positions, st.integers(0, 6))), positions, st.integers(0, 9))
def test_what_a_set_and_a_span_have_in_common_is_what_is_not_missing(
    bounds: list[tuple[int, int]], first: int, length: int
) -> None:
    taken = SpanSet(span_of(plain_range(low, low + size)) for low, size in bounds)
    span = span_of(plain_range(first, first + length))
    both = SpanSet([*taken.common(span), *taken.missing(span)])
    assert both.missing(span) == []
    assert not [part for one in taken.missing(span) for part in taken.common(one) if part.low < part.high]
    assert all(isinstance(part, Span) and not taken.missing(part) for part in taken.common(span))
