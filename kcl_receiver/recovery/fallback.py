"""Gives a reader from Kinesis what its blocks do not hold any more, as Spark's KinesisBackedBlockRDD does.

Beyond Spark's: each range is proven by count and checksum before a reader gets a record of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from kcl_receiver.config.credentials import Access, Identity
from kcl_receiver.errors import RangeDiffers, RangeTrimmed, StreamGone
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.recovery.restore import Source
from kcl_receiver.recovery.sources import Sources
from kcl_receiver.store.blocks.encode import BlockRange, rows_of
from kcl_receiver.store.ledger.entries import BlockStored

if TYPE_CHECKING:
    import pyarrow as pa


class KinesisFallback:
    """Reads the ranges of missing or damaged blocks from the stream that they came from.

    Args:
        region: The AWS region; None takes that of the stream's ARN.
        endpoint: URL of the Kinesis endpoint, or None.
        by_arn: Name streams by their ARN, as for those of another account.
        limits: What to ask of each shard; less than the service's limits if a receiver reads it, too.
        identity: As whom Kinesis is asked: `ReceiverConfig.access("kinesis").identity`; None leaves it to boto3.
        source: Makes the source of a stream, instead of all of the above.
    """

    def __init__(
        self,
        region: str | None = None,
        endpoint: str | None = None,
        *,
        by_arn: bool = False,
        limits: Limits | None = None,
        identity: Identity | None = None,
        source: Callable[[StreamIdentity], Source] | None = None,
    ) -> None:
        self._source = source or Sources(Access("kinesis", region, endpoint, identity), by_arn=by_arn, limits=limits)

    def ranges(self, entry: BlockStored, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.Table]]:
        """Yield ranges of a block with their rows, all columns of a block, as the stream gives them.

        Raises:
            RangeTrimmed: The stream does not hold one of them any more.
            RangeDiffers: The stream gives something else than what was stored.
            StreamGone: The stream was deleted, or is another one.
            StreamUnavailable: AWS does not answer, does not allow it, or has throttled for too long.
        """
        source = self._source(entry.stream)
        wanted = sorted(ranges, key=lambda one: (one.shard, one.first, one.last))
        requests = (Request(one, source.hash_ranges.get(one.shard), entry.block) for one in wanted)
        for answer in source.rereader.reread(entry.stream, requests):
            if answer.outcome is not Outcome.REBUILT or answer.columns is None:
                raise _error(entry, answer)
            one = answer.request.range
            yield one, rows_of(BlockRange(one, answer.columns))


def _error(entry: BlockStored, answer: Reread) -> RangeTrimmed | RangeDiffers | StreamGone:
    one = answer.request.range
    message = (
        f"{one.count} records of {one.shard} from {one.first} to {one.last}, which block {entry.block} held, cannot be "
        f"read from {entry.stream.arn}: {answer.detail}"
    )
    if answer.outcome is Outcome.TRIMMED:
        return RangeTrimmed(
            message, "they are lost, unless a backup has the block; `kcl-receiver recover` lists all such"
        )
    if answer.outcome is Outcome.GONE:
        return StreamGone(message, "is the region right? Else its records are lost, unless a backup has the block")
    return RangeDiffers(message, "nothing of it was given to the reader; see `kcl-receiver recover --dry-run`")
