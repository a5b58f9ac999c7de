"""What the Kinesis model answers when it refuses: the service's own error names and words.

They travel to the client as the service's JSON errors, and are no `ReceiverError`: only AWS clients see them.
"""

from __future__ import annotations


class ServiceError(Exception):
    """A refusal as the service gives it.

    Args:
        name: The service's name of the error, such as `ResourceNotFoundException`.
        message: Its words.
        status: HTTP status; 400 for all that the caller did, 500 and above for what the service did.
    """

    def __init__(self, name: str, message: str, status: int = 400) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.status = status


def stream_not_found(name: str, account: str) -> ServiceError:
    """Return the error for a stream that does not exist."""
    return ServiceError("ResourceNotFoundException", f"Stream {name} under account {account} not found.")


def shard_not_found(shard: str, name: str, account: str) -> ServiceError:
    """Return the error for a shard that does not exist, or has been trimmed away."""
    return ServiceError(
        "ResourceNotFoundException",
        f"Could not find shard {shard} in stream {name} under account {account}.",
    )


def invalid(message: str) -> ServiceError:
    """Return an InvalidArgumentException: well formed, and it cannot be."""
    return ServiceError("InvalidArgumentException", message)
