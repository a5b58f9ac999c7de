"""The contract of a block store.

A store keeps three kinds of things: blocks, which are written once and never changed; the ledger, to which each writer
appends lines of its own; and a few small documents, which are made once. The comments of the methods are the contract
that every store keeps and that callers build on. "Durable" means: it is there after the machine lost its power.

Whatever raises `StoreUnavailable` may have happened or not; the same call can be made again until it succeeds.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from os import PathLike, fspath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from kcl_receiver.errors import ConfigError, StoreRefused
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa

    from kcl_receiver.store.reads import BlockFile

FORMAT_VERSION = 1
"""Version of the layout, the footer and the ledger, as docs/format.md describes them."""

STORE_DOCUMENT = "store.json"


class BlockStore(ABC):
    """Where blocks and their ledger live.

    `put_block` may be called by several threads at once. One writer's `append_ledger` calls come one at a time.

    Attributes:
        url: The URL that `open_store` takes.
    """

    url: str

    def claim(self, application: str) -> None:
        """Make the store this application's, or see that it is so already. Repeatable.

        Raises:
            StoreRefused: It belongs to another application, or is of a format that this version does not know.
            StoreUnavailable: It cannot be read or written now.
        """
        mine = {"format": FORMAT_VERSION, "application": application}
        found = self.put_document_if_absent(STORE_DOCUMENT, json.dumps(mine).encode() + b"\n")
        owner = read_owner(self.url, found)
        if owner != application:
            raise StoreRefused(
                f"the store {self.url} belongs to application {owner!r}, not to {application!r}",
                "give each application a store of its own: change receiver.store or applicationName",
            )

    def owner(self) -> str | None:
        """Return the application that the store belongs to, or None if nobody has claimed it.

        Raises:
            StoreRefused: It is of a format that this version does not know.
            StoreUnavailable: It cannot be read now.
        """
        found = self.get_document(STORE_DOCUMENT)
        return None if found is None else read_owner(self.url, found)

    def require(self) -> None:
        """See that there is a store, before anything is said of what is in it.

        Raises:
            StoreRefused: There is none here, or it is of a format that this version does not know.
            StoreUnavailable: It cannot be read now.
        """
        if self.owner() is None and not self.writers() and next(iter(self.list_blocks()), None) is None:
            raise StoreRefused(
                f"there is no store at {self.url}", "is the URL right? `run` makes a store when it starts"
            )

    @abstractmethod
    def hold(self) -> None:
        """Be the only generator that writes to this store, until this process ends. Repeatable: it is looked at again.

        What a killed writer left behind is put in order by the next one, which must know that it has ended. A store
        that needs no such order lets several hold it at once. What killed generators left of blocks and ledgers that
        they could not finish is removed.

        Raises:
            StoreUnavailable: Another one holds it, or it cannot be told.
        """

    @abstractmethod
    def hold_maintenance(self, *, ask: bool = True) -> None:
        """Be the only one that recovers, repairs, compacts or expires here, until this process ends. Repeatable.

        The generator is not shut out: it never changes what is stored, and maintenance never touches its ledger.

        Args:
            ask: If another one holds it, ask it to give way; see `is_asked_for`. Compaction, which can wait, does not.

        Raises:
            StoreUnavailable: Another one holds it, or it cannot be told.
        """

    def is_asked_for(self) -> bool:
        """Return whether other maintenance has asked for the store since this was asked last.

        Compaction can take hours, and what `recover` is to bring back may be trimmed meanwhile.

        Raises:
            StoreUnavailable: It cannot be told now.
        """
        return False

    def without_generator(self) -> AbstractContextManager[bool]:
        """Keep generators from beginning to write here, as long as the context lasts; give whether none does.

        False: one is at work, and goes on; or it cannot be told, and one must be reckoned with.

        Raises:
            StoreUnavailable: The store cannot be used now.
        """
        return nullcontext(False)

    @abstractmethod
    def put_block(self, block_id: str, payload: Buffer) -> None:
        """Store a block. It is there, and durable, when this returns; before, it is seen whole or not at all.

        The same id with the same content again is fine: it is then made durable. A block is never overwritten. After a
        failure it may be there, and be seen by `has_block`, without being durable yet.

        Raises:
            StoreUnavailable: It was not stored, or it is not known whether it was; try the same again.
            StoreRefused: Another content is there under this id.
        """

    @abstractmethod
    def has_block(self, block_id: str) -> bool:
        """Return whether a block is there now. One look, no reading.

        Raises:
            StoreUnavailable: It cannot be told now.
        """

    @abstractmethod
    def read_block(self, block_id: str) -> bytes:
        """Return the whole content of a block.

        Raises:
            BlockMissing: It is not there.
            StoreUnavailable: It cannot be read now.
        """

    def open_block(self, block_id: str) -> BlockFile:
        """Open a block for reading at any place, as Parquet readers do. The caller closes it.

        Raises:
            BlockMissing: It is not there. Reading may raise this, too.
            StoreUnavailable: It cannot be read now. Reading may raise this, too.
        """
        from kcl_receiver.store.reads import open_block_file  # noqa: PLC0415 - pyarrow: `check` does without it

        what = f"block {block_id} of {self.url}"
        return open_block_file(what, lambda: self.open_raw(block_id), lambda: self.has_block(block_id))

    @abstractmethod
    def open_raw(self, block_id: str) -> pa.NativeFile:
        """Open the file of a block, for `open_block` alone: this and the file's reads may raise whatever they like.

        `FileNotFoundError` says that it is not there.
        """

    @abstractmethod
    def list_blocks(self) -> Iterator[tuple[str, int]]:
        """Yield the id and the size in bytes of each block that is there, in the order of their ids.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """

    @abstractmethod
    def blocks_of(self, writer: str) -> Iterator[tuple[str, int]]:
        """Yield the id and the size in bytes of each block of one writer that is there, in the order of their ids.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """

    @abstractmethod
    def settle_block(self, block_id: str) -> None:
        """Make a block durable that another writer left behind: it may have ended before it could. Repeatable.

        Raises:
            BlockMissing: It is not there.
            StoreUnavailable: It is not known to be durable; try again.
        """

    @abstractmethod
    def delete_block(self, block_id: str) -> None:
        """Remove a block for good; it is gone, and that is durable, when this returns. Repeatable.

        A durable entry that says what replaced the block, or that it was expired, comes first.

        Raises:
            StoreUnavailable: It was not removed, or it is not known whether it was; try again.
        """

    def delete_blocks(self, block_ids: Iterable[str]) -> None:
        """Remove blocks for good, as `delete_block` does; a store can be quicker at many than at one by one.

        Raises:
            StoreUnavailable: Some were not removed, or it is not known whether they were; try all again.
        """
        for block in block_ids:
            self.delete_block(block)

    @abstractmethod
    def append_ledger(self, writer: str, first_number: int, lines: bytes) -> None:
        """Append whole lines to a writer's ledger; they are durable when this returns.

        A line's number is its place in the writer's ledger, from 1. Repeatable: what begins with the same number is
        the same write, and is found once in the ledger. After a failure the same call comes first, so that what is
        left of a torn write is never followed by other lines.

        Args:
            writer: Id of the writer, which nobody else uses.
            first_number: Number of the first of the lines.
            lines: One or more lines, each ended by a newline.

        Raises:
            StoreUnavailable: They were not stored, or it is not known whether they were; try the same again.
            LedgerDamaged: The ledger does not end just before `first_number`, or holds other lines there.
        """

    @abstractmethod
    def open_ledgers(self) -> Iterator[tuple[str, bytes]]:
        """Yield the id of each writer whose ledger is not sealed and the content of that, in the order of the ids.

        A content can end in a torn line: of a writer that was killed, or that is writing right now.

        Raises:
            StoreUnavailable: They cannot be read now.
        """

    @abstractmethod
    def sealed_ledgers(self, since: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield the id of each writer whose ledger is sealed and the content of that, the latest month first.

        Args:
            since: Leave out the writers that began before this month, `YYYY-MM`.

        Raises:
            StoreUnavailable: They cannot be read now.
        """

    def read_ledger(self) -> Iterator[tuple[str, bytes]]:
        """Yield each writer's id and the content of its ledger, once each, in no order.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        # The open ones first: one that is sealed meanwhile is found among the sealed ones, and whole.
        opened = dict(self.open_ledgers())
        for writer, content in self.sealed_ledgers():
            opened.pop(writer, None)
            yield writer, content
        yield from opened.items()

    @abstractmethod
    def sealed_ledger(self, writer: str) -> bytes | None:
        """Return the content of a writer's sealed ledger, or None if there is none.

        Raises:
            StoreUnavailable: It cannot be read now.
        """

    @abstractmethod
    def seal_ledger(self, writer: str) -> None:
        """Put the ledger of a writer that has ended among the sealed ones. Repeatable.

        Its content must be durable, and a later writer have carried over what is in it: whoever starts reads open
        ledgers alone.

        Raises:
            StoreUnavailable: It is not known to be sealed; try again.
        """

    @abstractmethod
    def settle_ledger(self, writer: str, content: bytes) -> None:
        """Make durable what `open_ledgers` yielded of a writer that has ended. Repeatable.

        A writer that was killed may have left lines that can be read and are not durable. Whoever is going to rely
        on such lines, by not storing again what they name, calls this first. The content is written anew: if the
        killed writer's own fsync had failed, another one would succeed and prove nothing.

        Raises:
            StoreUnavailable: It is not known to be durable; try again.
        """

    @abstractmethod
    def writers(self) -> list[str]:
        """Return the ids of all writers that have a ledger, open or sealed, in order. Maintenance has its own.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """

    @abstractmethod
    def ledger(self, writer: str) -> bytes | None:
        """Return the content of a writer's ledger, open or sealed, or None if there is none. See `open_ledgers`.

        Raises:
            StoreUnavailable: It cannot be read now.
        """

    @abstractmethod
    def maintenance_days(self) -> list[str]:
        """Return the days, `YYYY-MM-DD`, about whose blocks there may be maintenance ledgers, in order.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """

    @abstractmethod
    def maintenance_ledgers(self, day: str) -> Iterator[tuple[str, bytes]]:
        """Yield id and content of each maintenance ledger about the blocks of a day, in the order of the ids.

        Raises:
            StoreUnavailable: They cannot be read now.
        """

    def maintenance_starts(self, day: str) -> Iterator[tuple[str, bytes]]:
        """Yield id and first line of each maintenance ledger about the blocks of a day, in the order of the ids.

        Raises:
            StoreUnavailable: They cannot be read now.
        """
        for writer, content in self.maintenance_ledgers(day):
            yield writer, content[: content.find(b"\n") + 1]

    @abstractmethod
    def maintenance_ledger(self, writer: str) -> bytes | None:
        """Return the content of a maintenance ledger, or None if there is none.

        Raises:
            StoreUnavailable: It cannot be read now.
        """

    @abstractmethod
    def put_maintenance_ledger(self, writer: str, content: bytes) -> None:
        """Store a maintenance ledger: it is there, whole and durable, when this returns. Repeatable.

        Raises:
            StoreUnavailable: It was not stored, or it is not known whether it was; try the same again.
            StoreRefused: Another content is there under this id.
        """

    @abstractmethod
    def put_document_if_absent(self, name: str, content: bytes) -> bytes:
        """Make a small document unless there is one. Return what is there now, whole and durable. Repeatable.

        Of several callers at once, on one host or many, all get the content of one of them.

        Raises:
            StoreUnavailable: It is not known whether it is there; try again.
        """

    @abstractmethod
    def get_document(self, name: str) -> bytes | None:
        """Return a document's content, or None if there is none.

        Raises:
            StoreUnavailable: It cannot be read now.
        """

    def list_leftovers(self) -> Iterator[tuple[str, int]]:
        """Yield path and size of what is in the store and is no part of it: temporary files of killed writers, strays.

        They hurt nobody but take room. A writer that is writing right now has a temporary file too.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """
        return iter(())

    @abstractmethod
    def temporaries(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, size and time of the last change, in milliseconds since the epoch, of each temporary file.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """

    @abstractmethod
    def delete_temporary(self, name: str) -> None:
        """Remove a temporary file that nobody writes. Repeatable.

        Raises:
            StoreUnavailable: It was not removed; try again.
        """

    @abstractmethod
    def set_aside_ledger(self, writer: str, good: bytes) -> str:
        """Put the good lines of a damaged ledger in its place, and keep all of it under another name. Repeatable.

        Its writer has ended, and what the damaged lines held is recorded elsewhere, durably.

        Args:
            writer: Id of the writer, a generator's or of maintenance.
            good: The lines before the damage.

        Returns:
            Where the damaged one is kept, below the store.

        Raises:
            StoreUnavailable: It is not known to be durable; try again.
        """


def read_owner(url: str, document: bytes) -> str:
    """Return the application that a store's document names.

    Raises:
        StoreRefused: The document cannot be read, or is of another format version.
    """
    try:
        raw = json.loads(document)
        version, application = raw["format"], raw["application"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreRefused(
            f"{STORE_DOCUMENT} of the store {url} is not what this program writes: {error!r}",
            "is this directory a store of kcl_receiver? If it is, put the file back from a backup",
        ) from error
    if version != FORMAT_VERSION or not isinstance(application, str):
        raise StoreRefused(
            f"the store {url} has format version {version!r}; this program knows version {FORMAT_VERSION}",
            "use the version of kcl-receiver that made it, or a newer one",
        )
    return application


def place_url(place: str | PathLike[str]) -> str:
    """Return the URL of a store that is named by its URL or by the path of its directory.

    Raises:
        ConfigError: It is neither.
    """
    text = fspath(place)
    if not isinstance(text, str):
        raise ConfigError(f"{place!r} is not the place of a store", "give a URL, a path or a store")
    if "://" in text or text.startswith("file:"):
        return text
    try:
        if not text or "\0" in text:
            raise ValueError(text)
        return "file://" + quote(os.path.abspath(text))  # noqa: PTH100 - keeps links
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not the place of a store", "write file:///absolute/path, or a directory's path"
        ) from error


def open_store(place: BlockStore | str | PathLike[str]) -> BlockStore:
    """Return the store at a place. Nothing is created, read or written yet.

    Args:
        place: `file:///absolute/path`, the path of a directory, or a store, which is returned as it is.

    Raises:
        ConfigError: The URL is of a kind that this version does not know, or its path is not absolute.
    """
    from kcl_receiver.store.local import LocalStore  # noqa: PLC0415 - it builds on this module

    if isinstance(place, BlockStore):
        return place
    url = place_url(place)
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:  # a bracket without its other half, or a path that is not UTF-8
        raise ConfigError(f"store {url!r} is not a URL: {error}", "write file:///absolute/path") from error
    if parts.scheme == "s3":
        raise ConfigError(
            f"store {url!r}: s3:// is not in this version", "use a directory: receiver.store = file:///absolute/path"
        )
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ConfigError(f"store {url!r} is not a URL of a store", "write file:///absolute/path")
    if not path.startswith("/") or "\0" in path or path.strip("/") == "":
        raise ConfigError(
            f"store {url!r} does not name a directory by its absolute path", "three slashes: file:///data/store"
        )
    return LocalStore(path)
