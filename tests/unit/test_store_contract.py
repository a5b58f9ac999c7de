"""Both places pass the contract that is shipped for users' own, and wrong ones fail it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.store.local import Directory
from kcl_receiver.store.objects import Objects
from kcl_receiver.testing import KEY, LOG, Checked, Fault, MemoryBucket, MemoryObjects, ObjectsContract, Stat
from kcl_receiver.wire.columns import Buffer


class TestDirectory(ObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> Objects:  # type: ignore[override]
        return Directory(tmp_path / "a" / "place")

    def reopened(self, objects: Objects) -> Objects:
        assert isinstance(objects, Directory)
        return Directory(objects.root)


class TestMemory(ObjectsContract):
    @pytest.fixture
    def objects(self) -> Objects:  # type: ignore[override]
        return MemoryObjects()

    def reopened(self, objects: Objects) -> Objects:
        assert isinstance(objects, MemoryObjects)
        return MemoryObjects(objects.bucket)


# What a network does


def failing(bucket: MemoryBucket, *faults: Fault | None) -> None:
    """Let the next requests that change something fail so."""
    left = list(faults)
    bucket.faults = lambda request, _: left.pop(0) if request in ("put", "remove") and left else None


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_an_append_whose_answer_is_lost_is_found_once_when_it_is_tried_again(fault: Fault) -> None:
    place = MemoryObjects()
    place.append(LOG, 1, b"a\n")
    failing(place.bucket, fault)
    with pytest.raises(TimeoutError):
        place.append(LOG, 2, b"b\n")
    place.append(LOG, 2, b"b\n")
    place.append(LOG, 3, b"c\n")
    assert place.get(LOG) == b"a\nb\nc\n"


def test_an_append_of_a_dead_process_that_arrives_late_does_not_displace_what_is_there() -> None:
    dead = MemoryObjects()
    dead.append(LOG, 1, b"a\n")
    failing(dead.bucket, Fault.LATE)
    with pytest.raises(TimeoutError):
        dead.append(LOG, 2, b"of the dead\n")
    heir = MemoryObjects(dead.bucket)
    heir.append(LOG, 2, b"of the heir\n")
    dead.bucket.deliver_late()
    assert heir.get(LOG) == b"a\nof the heir\n"
    with pytest.raises(LedgerDamaged):
        dead.append(LOG, 2, b"of the dead\n")


def test_a_log_whose_removal_was_cut_short_is_not_there() -> None:
    place = MemoryObjects()
    for number in range(1, 1_500):
        place.append(LOG, number, b"line\n")
    removed = []

    def second(request: str, _: str) -> Fault | None:
        removed.append(request)
        return Fault.BEFORE if removed.count("remove") == 2 else None

    place.bucket.faults = second
    with pytest.raises(TimeoutError):
        place.delete([LOG])
    place.bucket.faults = lambda *_: None
    assert place.get(LOG) is None
    assert list(place.list("")) == []
    place.delete([LOG])
    assert place.bucket.page("", "", deep=True) == []


def test_whatever_a_place_raises_it_is_unavailable() -> None:
    place = MemoryObjects()
    checked = Checked(place)
    checked.create(KEY, b"content")
    place.bucket.faults = lambda *_: Fault.BEFORE
    for call in (
        lambda: checked.create(KEY, b""),
        lambda: checked.replace(KEY, b""),
        lambda: checked.get(KEY),
        lambda: checked.stat(KEY),
        lambda: list(checked.list("")),
        lambda: checked.delete([KEY]),
        lambda: checked.append(LOG, 1, b"a\n"),
        lambda: checked.settle(KEY),
        lambda: checked.open(KEY),
    ):
        with pytest.raises(StoreUnavailable, match=r"memory://memory/.*made to fail"):
            call()


# Wrong places: each fails, and by the test that says why


class Overwrites(MemoryObjects):
    def create(self, key: str, content: Buffer) -> bool:
        self.replace(key, content)
        return True


class Loses(MemoryObjects):
    """Appends go through a buffer that the process takes with it."""

    def append(self, key: str, number: int, lines: bytes) -> None:
        self._next[key] = number + lines.count(b"\n")


class ReportsEarly(MemoryObjects):
    """Says that it is there, and lets it arrive with the next request that changes something."""

    arriving: Callable[[], object] = staticmethod(lambda: None)

    def create(self, key: str, content: Buffer) -> bool:
        self.arriving()
        free = self.stat(key) is None
        kept = bytes(content)
        self.arriving = lambda: super(ReportsEarly, self).create(key, kept)
        return free


class ListsStale(MemoryObjects):
    listed: dict[str, tuple[Stat, ...]]

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        self.listed = getattr(self, "listed", {})
        return iter(self.listed.setdefault(f"{prefix} {deep}", tuple(super().list(prefix, deep=deep))))


class ListsOnePage(MemoryObjects):
    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        return islice(super().list(prefix, deep=deep), 1_000)


class AppendsAgain(MemoryObjects):
    """Takes a retry for another append."""

    def append(self, key: str, number: int, lines: bytes) -> None:
        content = self.get(key) or b""
        self.replace(key, content + lines)


class RaisesLate(MemoryObjects):
    """Finds out that the key is taken when it is asked for something else."""

    refused: str | None = None

    def create(self, key: str, content: Buffer) -> bool:
        if not super().create(key, content):
            self.refused = key
        return True

    def get(self, key: str) -> bytes | None:
        if self.refused is not None:
            raise FileExistsError(self.refused)
        return super().get(key)


def failing_tests(kind: type[MemoryObjects]) -> set[str]:
    """Return the names of the contract's tests that a place fails."""

    class Contract(ObjectsContract):
        def reopened(self, objects: Objects) -> Objects:
            assert isinstance(objects, MemoryObjects)
            return kind(objects.bucket)

    out = set()
    for name in dir(Contract):
        if name.startswith("test_") and "_at_once_" not in name:
            try:
                getattr(Contract(), name)(kind())
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - it fails, whatever by
                out.add(name)
    return out


def test_the_place_that_the_wrong_ones_are_made_of_passes() -> None:
    assert failing_tests(MemoryObjects) == set()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Overwrites, "test_a_key_that_is_taken_keeps_its_content"),
        (Loses, "test_lines_are_appended_in_order_and_read_as_one"),
        (ReportsEarly, "test_what_was_created_is_read_back_by_every_process"),
        (ListsStale, "test_what_was_just_created_or_deleted_is_listed_so"),
        (ListsOnePage, "test_more_than_a_page_is_listed_and_deleted"),
        (AppendsAgain, "test_the_same_lines_again_are_found_once"),
        (RaisesLate, "test_a_key_that_is_taken_keeps_its_content"),
    ],
)
def test_a_wrong_place_fails_the_test_that_says_why(kind: type[MemoryObjects], test: str) -> None:
    assert test in failing_tests(kind)
