"""What is done with boto3 clients of the emulator in more than one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

Boto3: TypeAlias = Any
"""A boto3 client: boto3 makes its clients' classes at run time, so that there is nothing better to call them."""


def every_shard(kinesis: Boto3, stream: str, kind: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the shards of a stream, all or those of a ShardFilter type.

    boto3's own paginator fails from the second page on: it sends the stream's name beside the token.
    """
    request: dict[str, Any] = {"StreamName": stream}
    if kind is not None:
        request["ShardFilter"] = {"Type": kind}
    while request:
        page = kinesis.list_shards(**request)
        yield from page["Shards"]
        token = page.get("NextToken")
        request = {"NextToken": token} if token else {}
