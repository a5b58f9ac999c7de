"""Lands Amazon Kinesis streams as durable blocks, and never checkpoints what is not stored.

    from kcl_receiver import read

    for batch in read("file:///data/landing", columns=["data"]):
        print(batch.shards, batch.batch.num_rows)

What is in `__all__` is the public API; all else may change with any version. A name is imported when it is first used,
and nothing before: one processor runs per shard, and its start-up time and memory are paid per shard. No module of this
package has the name of an export, for importing the module would put it in the export's place.
"""

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BlockDamaged",
    "BlockMissing",
    "BlockStored",
    "Bound",
    "Change",
    "Changes",
    "ConfigError",
    "Fallback",
    "HoleFound",
    "HoleInShard",
    "KinesisFallback",
    "LedgerDamaged",
    "Position",
    "Range",
    "RangeDiffers",
    "RangeTrimmed",
    "Reading",
    "ReceiverError",
    "Record",
    "Report",
    "ShardReport",
    "Stats",
    "Store",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamError",
    "StreamGone",
    "StreamIdentity",
    "StreamReplaced",
    "StreamUnavailable",
    "TokenRefused",
    "__version__",
    "follow",
    "open_store",
    "read",
    "records",
    "verify",
]

TYPE_CHECKING = False  # type checkers know the name; the module `typing` would be paid for by each processor
if TYPE_CHECKING:
    from kcl_receiver.audit.report import Report, ShardReport
    from kcl_receiver.errors import (
        BlockDamaged,
        BlockMissing,
        ConfigError,
        HoleFound,
        LedgerDamaged,
        RangeDiffers,
        RangeTrimmed,
        ReceiverError,
        StoreError,
        StoreRefused,
        StoreUnavailable,
        StreamError,
        StreamGone,
        StreamReplaced,
        StreamUnavailable,
        TokenRefused,
    )
    from kcl_receiver.ranges import Position, Range, StreamIdentity
    from kcl_receiver.reading.api import Record, read, records, verify
    from kcl_receiver.reading.blocks import Fallback
    from kcl_receiver.reading.bounds import Bound
    from kcl_receiver.reading.query import Batch, HoleInShard, Stats
    from kcl_receiver.reading.reading import Reading
    from kcl_receiver.recovery.fallback import KinesisFallback
    from kcl_receiver.store.ledger.entries import BlockStored
    from kcl_receiver.store.ledger.follow import Change, Changes, follow
    from kcl_receiver.store.store import Store, open_store
else:
    _HOMES = {
        "Batch": "reading.query",
        "Store": "store.store",
        "BlockStored": "store.ledger.entries",
        "Bound": "reading.bounds",
        "Change": "store.ledger.follow",
        "Changes": "store.ledger.follow",
        "Fallback": "reading.blocks",
        "HoleInShard": "reading.query",
        "KinesisFallback": "recovery.fallback",
        "Position": "ranges",
        "Range": "ranges",
        "Reading": "reading.reading",
        "Record": "reading.api",
        "Report": "audit.report",
        "ShardReport": "audit.report",
        "Stats": "reading.query",
        "StreamIdentity": "ranges",
        "follow": "store.ledger.follow",
        "open_store": "store.store",
        "read": "reading.api",
        "records": "reading.api",
        "verify": "reading.api",
    }
    """In which module each export is; the others are errors."""

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = __import__(f"{__name__}.{_HOMES.get(name, 'errors')}", fromlist=[name])
        return getattr(home, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
