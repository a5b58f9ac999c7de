"""An AWS that is killed is away, and comes back with what it had."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from faults.cloud import CloudProcess


def test_an_aws_that_was_killed_comes_back_where_it_was_with_what_it_had(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path / "cloud")
    try:
        kinesis = cloud.client("kinesis")
        kinesis.create_stream(StreamName="s", ShardCount=1)
        number = kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"x")["SequenceNumber"]
        url = cloud.url
        cloud.kill()
        with pytest.raises(BotoCoreError):
            kinesis.list_streams()
        cloud.start()
        assert cloud.url == url
        assert int(kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"y")["SequenceNumber"]) > int(number)
        cloud.set_faults(down="kinesis")
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            kinesis.list_streams()
        cloud.set_faults(down=False)
        kinesis.list_streams()
    finally:
        cloud.kill()
