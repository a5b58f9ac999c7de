"""Counts which access key signed how many requests, by service and operation.

So that a test can hold the identities of two programs against each other, such as KCL's java and Python beside it.
"""

from __future__ import annotations

import threading
from urllib.parse import parse_qs

UNSIGNED = "unsigned"
"""Stands for the key of a request without a signature, such as AssumeRoleWithWebIdentity."""
REST = "*"
"""Stands for every service, operation and key beyond the first MAX_COUNTS."""
MAX_COUNTS = 10_000
"""Services, operations and keys that are counted apart; a client may invent as many as it likes."""


class Signers:
    """Which access key signed which operations; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, service: str, operation: str, key: str) -> None:
        """Count one request."""
        with self._lock:
            entry = (service, operation, key)
            if entry not in self._counts and len(self._counts) >= MAX_COUNTS:
                entry = (REST, REST, REST)
            self._counts[entry] = self._counts.get(entry, 0) + 1

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the number of requests by service, operation and access key id."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        with self._lock:
            for (service, operation, key), count in self._counts.items():
                found.setdefault(service, {}).setdefault(operation, {})[key] = count
        return found

    def keys(self, service: str, operation: str | None = None) -> set[str]:
        """Return the access key ids that signed requests to a service, or to one of its operations."""
        operations = self.counts().get(service, {})
        return {key for name, keys in operations.items() if operation in (None, name) for key in keys}

    def clear(self) -> None:
        """Forget what was counted."""
        with self._lock:
            self._counts.clear()


def access_key(headers: dict[str, str], query: str) -> str:
    """Return the access key id that a request is signed with, in its header or (presigned) in its query.

    A presigned URL of S3 names it in the way of the older signature unless boto3 is told otherwise.
    """
    _, found, credential = headers.get("authorization", "").partition("Credential=")
    if not found:
        fields = parse_qs(query)
        credential = fields.get("X-Amz-Credential", fields.get("AWSAccessKeyId", [""]))[0]
    return credential.partition(",")[0].partition("/")[0] or UNSIGNED
