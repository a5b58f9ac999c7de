"""For those who write a store of their own: the contract of `kcl_receiver.store.objects.Objects` as tests, and fakes.

    from kcl_receiver.testing import ObjectsContract

    class TestMine(ObjectsContract):
        @pytest.fixture
        def objects(self):
            return MyObjects(...)        # a new, empty place

        def reopened(self, objects):
            return MyObjects(...)        # the same place, as another process has it

`MemoryObjects` keeps everything in memory, with the manners of S3, and fails as a network does if told to. This module
needs pytest.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterable

import pytest

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.objects import Checked, Objects, Stat

__all__ = ["Checked", "Fault", "MemoryBucket", "MemoryObjects", "Objects", "ObjectsContract", "Stat"]

KEY = "blocks/2026-11-22/20261122T131501Z-7f3a9c01-000000000001.parquet"
LOG = "ledger/20261122T131501Z-7f3a9c01.jsonl"


def keys(found: Iterable[Stat]) -> list[str]:
    """Return the keys of what was listed, without what a place has in `tmp/` for its own use."""
    return [one.key for one in found if not one.key.startswith("tmp/")]


class ObjectsContract:
    """The contract of `Objects`. A store that passes keeps what is given to it, as far as one machine can tell.

    What survives a loss of power no test of this kind can see; it is for the author to argue.
    """

    @abstractmethod
    def objects(self) -> Objects:
        """Return a new, empty place: a pytest fixture."""

    def reopened(self, objects: Objects) -> Objects:
        """Return another object for the same place, as another process would have it."""
        return objects

    # Ordinary objects

    def test_what_was_created_is_read_back_by_every_process(self, objects: Objects) -> None:
        assert objects.create(KEY, b"content")
        for place in (objects, self.reopened(objects)):
            assert place.get(KEY) == b"content"
            found = place.stat(KEY)
            assert found is not None
            assert (found.key, found.size) == (KEY, 7)

    def test_any_buffer_is_content_and_any_size(self, objects: Objects) -> None:
        for number, content in enumerate([b"", b"x", bytes(3_000_000)]):
            assert objects.create(f"{KEY}{number}", memoryview(content))
            assert self.reopened(objects).get(f"{KEY}{number}") == content

    def test_a_key_that_is_taken_keeps_its_content(self, objects: Objects) -> None:
        assert objects.create(KEY, b"content")
        assert not objects.create(KEY, b"content")
        assert not self.reopened(objects).create(KEY, b"other")
        assert self.reopened(objects).get(KEY) == b"content"

    def test_of_several_that_create_at_once_one_is_told_so_and_its_content_is_there(self, objects: Objects) -> None:
        barrier = threading.Barrier(6)
        created: list[bytes] = []

        def create(number: int) -> None:
            place, mine = self.reopened(objects), b"%d" % number
            barrier.wait()
            if place.create("start.json", mine):
                created.append(mine)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert created == [self.reopened(objects).get("start.json")]

    def test_what_is_not_there_is_said_to_be_so(self, objects: Objects) -> None:
        assert objects.get(KEY) is None
        assert objects.stat(KEY) is None
        assert list(objects.list("")) == []
        with pytest.raises(FileNotFoundError):
            objects.open(KEY).read()
        with pytest.raises(FileNotFoundError):
            objects.settle(KEY)
        objects.delete([KEY])

    def test_a_folder_is_no_object(self, objects: Objects) -> None:
        objects.create("a/b/c", b"")
        assert objects.get("a/b") is None
        assert objects.get("a/b/c/d") is None

    def test_an_object_is_read_at_any_place(self, objects: Objects) -> None:
        objects.create(KEY, b"0123456789")
        with objects.open(KEY) as file:
            assert file.size() == 10
            file.seek(7)
            assert file.read(2) == b"78"
            assert file.read_at(3, 1) == b"123"
            file.seek(0)
            assert file.read() == b"0123456789"

    def test_an_object_is_replaced_in_one_step(self, objects: Objects) -> None:
        objects.replace(KEY, b"new")
        objects.replace(KEY, b"newer")
        assert self.reopened(objects).get(KEY) == b"newer"

    def test_an_object_that_another_process_created_can_be_settled(self, objects: Objects) -> None:
        objects.create(KEY, b"content")
        self.reopened(objects).settle(KEY)
        assert objects.get(KEY) == b"content"

    # Listing

    def test_all_keys_that_begin_so_are_listed_in_their_order(self, objects: Objects) -> None:
        made = ["a.json", "blocks/1/a", "blocks/1/b", "blocks/2/a", "blocks/2/ab", "ledger/x.jsonl"]
        for key in reversed(made):
            objects.create(key, key.encode())
        place = self.reopened(objects)
        assert keys(place.list("")) == made
        assert [one.size for one in place.list("")] == [len(key) for key in made]
        assert keys(place.list("blocks/")) == made[1:5]
        assert keys(place.list("blocks/2/a")) == made[3:5]
        assert keys(place.list("blocks/2/ab")) == made[4:5]
        assert keys(place.list("nothing/")) == []

    def test_what_lies_deeper_is_listed_as_a_folder_if_asked_for(self, objects: Objects) -> None:
        for key in ("a.json", "blocks/1/a", "blocks/1/b", "blocks/2/a", "blocks/file"):
            objects.create(key, b"x")
        assert keys(objects.list("", deep=False)) == ["a.json", "blocks/"]
        assert keys(objects.list("blocks/", deep=False)) == ["blocks/1/", "blocks/2/", "blocks/file"]

    def test_more_than_a_page_is_listed_and_deleted(self, objects: Objects) -> None:
        made = [f"many/{number:04d}" for number in range(2_001)]
        for key in made:
            objects.create(key, b"")
        objects.create("more/0000", b"")
        assert keys(objects.list("many/")) == made
        assert keys(objects.list("", deep=False)) == ["many/", "more/"]
        objects.delete(made[1:])
        assert keys(objects.list("")) == ["many/0000", "more/0000"]

    def test_what_was_just_created_or_deleted_is_listed_so(self, objects: Objects) -> None:
        objects.create("a/1", b"")
        assert keys(objects.list("a/")) == ["a/1"]
        objects.create("a/2", b"")
        assert keys(objects.list("a/")) == ["a/1", "a/2"]
        objects.delete(["a/1", "a/nothing"])
        assert keys(self.reopened(objects).list("a/")) == ["a/2"]
        assert self.reopened(objects).get("a/1") is None

    # Logs

    def test_lines_are_appended_in_order_and_read_as_one(self, objects: Objects) -> None:
        objects.append(LOG, 1, b"a\n")
        objects.append(LOG, 2, b"b\nc\n")
        objects.append(LOG, 4, b"d\n")
        place = self.reopened(objects)
        assert place.get(LOG) == b"a\nb\nc\nd\n"
        assert keys(place.list("ledger/")) == keys(place.list("ledger/", deep=False)) == [LOG]
        assert [one.size for one in place.list("ledger/")] == [8]
        assert place.stat(LOG) is not None

    def test_a_log_is_read_on_from_a_line(self, objects: Objects) -> None:
        assert objects.get_from(LOG, 1) == objects.get_from(LOG, 2) == b""
        objects.append(LOG, 1, b"a\n")
        objects.append(LOG, 2, b"b\nc\n")
        place = self.reopened(objects)
        assert place.get_from(LOG, 1) == b"a\nb\nc\n"
        assert place.get_from(LOG, 2) == b"b\nc\n"
        assert place.get_from(LOG, 4) == b""
        assert place.get_from(LOG, 4, at_end=True) == b""
        objects.append(LOG, 4, b"d\n")
        assert place.get_from(LOG, 4) == b"d\n"
        assert place.get_from(LOG, 4, at_end=True) == b"d\n"
        assert place.get_from(LOG, 3) == b"c\nd\n"

    def test_the_same_lines_again_are_found_once(self, objects: Objects) -> None:
        objects.append(LOG, 1, b"a\nb\n")
        objects.append(LOG, 3, b"c\n")
        for place in (objects, self.reopened(objects)):
            place.append(LOG, 3, b"c\n")
            place.append(LOG, 1, b"a\nb\n")
        self.reopened(objects).append(LOG, 4, b"d\n")
        assert objects.get(LOG) == b"a\nb\nc\nd\n"

    def test_other_lines_in_the_place_of_some_are_refused(self, objects: Objects) -> None:
        objects.append(LOG, 1, b"a\nb\n")
        for place in (objects, self.reopened(objects)):
            with pytest.raises(LedgerDamaged):
                place.append(LOG, 2, b"x\n")
            with pytest.raises(LedgerDamaged):
                place.append(LOG, 4, b"d\n")
        assert objects.get(LOG) == b"a\nb\n"

    def test_many_appends_are_one_log(self, objects: Objects) -> None:
        for number in range(1, 1_102):
            objects.append(LOG, number, b"%d\n" % number)
        assert self.reopened(objects).get(LOG) == b"".join(b"%d\n" % number for number in range(1, 1_102))

    def test_a_log_of_another_process_can_be_settled_and_closed(self, objects: Objects) -> None:
        objects.append(LOG, 1, b"a\nb\n")
        heir = self.reopened(objects)
        for _ in range(2):
            heir.settle_log(LOG, b"a\nb\n")
        heir.append(LOG, 3, b"closed\n")
        assert self.reopened(objects).get(LOG) == b"a\nb\nclosed\n"

    def test_a_log_that_has_ended_can_be_merged(self, objects: Objects) -> None:
        for number in range(1, 9):
            objects.append(LOG, number, b"%d\n" % number)
        whole = b"".join(b"%d\n" % number for number in range(1, 9))
        for _ in range(2):
            objects.merge(LOG, whole)
            place = self.reopened(objects)
            assert place.get(LOG) == whole
            assert place.get_from(LOG, 4) == whole[6:]
            assert [(one.key, one.size) for one in place.list("ledger/")] == [(LOG, len(whole))]
            assert list(place.unmerged("ledger/")) == []
        for place in (objects, self.reopened(objects)):
            with pytest.raises(LedgerDamaged):
                place.append(LOG, 8, b"other\n")

    def test_what_comes_after_a_key_is_listed_alone(self, objects: Objects) -> None:
        made = ["ledger/a.json", LOG, "ledger/z.jsonl"]
        objects.create(made[0], b"")
        objects.append(LOG, 1, b"a\n")
        objects.append(LOG, 2, b"b\n")
        objects.append(made[2], 1, b"a\n")
        for number, after in enumerate(["", *sorted(made)]):
            assert keys(objects.list_after("ledger/", after)) == sorted(made)[number:]

    def test_a_log_is_replaced_and_deleted_whole(self, objects: Objects) -> None:
        for number in range(1, 4):
            objects.append(LOG, number, b"%d\n" % number)
        objects.replace(LOG, b"1\n2\n")
        assert self.reopened(objects).get(LOG) == b"1\n2\n"
        objects.append(LOG, 3, b"new\n")
        assert self.reopened(objects).get(LOG) == b"1\n2\nnew\n"
        objects.delete([LOG])
        assert objects.get(LOG) is None
        assert keys(self.reopened(objects).list("")) == []
