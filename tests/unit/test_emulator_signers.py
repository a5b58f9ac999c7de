from __future__ import annotations

import pytest

from kcl_receiver.emulator import signers
from kcl_receiver.emulator.signers import REST, UNSIGNED, Signers, access_key

SCOPE = "20250101/us-east-1/kinesis/aws4_request"


@pytest.mark.parametrize(
    ("headers", "query", "key"),
    [
        ({"authorization": f"AWS4-HMAC-SHA256 Credential=AKIA1/{SCOPE}, SignedHeaders=host, Signature=0"}, "", "AKIA1"),
        ({}, f"X-Amz-Credential=AKIA2%2F{SCOPE.replace('/', '%2F')}&X-Amz-Signature=0", "AKIA2"),
        ({}, "list-type=2&AWSAccessKeyId=AKIA3&Signature=0", "AKIA3"),
        ({}, "list-type=2", UNSIGNED),
        ({}, "X-Amz-Credential=", UNSIGNED),
        ({"authorization": "Bearer x"}, "", UNSIGNED),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=, Signature=0"}, "", UNSIGNED),
    ],
)
def test_the_access_key_is_found_in_header_and_query(headers: dict[str, str], query: str, key: str) -> None:
    assert access_key(headers, query) == key


def test_requests_are_counted_by_service_operation_and_key() -> None:
    counted = Signers()
    for service, operation, key in [("sts", "AssumeRole", "a"), ("sts", "AssumeRole", "a"), ("sts", "Get", "b")]:
        counted.add(service, operation, key)
    assert counted.counts() == {"sts": {"AssumeRole": {"a": 2}, "Get": {"b": 1}}}
    assert counted.keys("sts") == {"a", "b"}
    assert counted.keys("sts", "AssumeRole") == {"a"}
    assert counted.keys("kinesis") == set()
    counted.clear()
    assert counted.counts() == {}


def test_invented_keys_take_no_more_than_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signers, "MAX_COUNTS", 2)
    counted = Signers()
    for key in ("a", "b", "c", "d", "a"):
        counted.add("s3", "GET", key)
    assert counted.counts() == {"s3": {"GET": {"a": 2, "b": 1}}, REST: {REST: {REST: 2}}}
