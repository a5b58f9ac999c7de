"""Options that several commands have, so that one thing has one name and one help text everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import click

from kcl_receiver.cli.times import TypeBase
from kcl_receiver.config.credentials import Access
from kcl_receiver.config.properties import ReceiverConfig, load
from kcl_receiver.config.values import STREAM_ARN, store_url
from kcl_receiver.errors import ConfigError
from kcl_receiver.store.store import place_url

_F = TypeVar("_F", bound=Callable[..., Any])

properties_option = click.option(
    "-p", "--properties", required=True, metavar="FILE", help="The properties file of KCL and receiver."
)
"""`--properties FILE`, needed; arrives as `properties`."""

properties_or_other_option = click.option(
    "-p", "--properties", metavar="FILE", help="The properties file of KCL and receiver."
)
"""`--properties FILE` where other options can say the same; arrives as `properties` or None."""

store_option = click.option(
    "--store",
    metavar="URL",
    help="The block store, or its directory, if there is no properties file at hand.",
)
"""`--store URL`; arrives as `store` or None."""

output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of what comes out on stdout.",
)
"""`--output text|json`; arrives as `output`."""


class _Endpoint(TypeBase):
    """The URL of a service; arrives as it was given."""

    name = "endpoint"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click."""
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and parts.hostname and " " not in value and parts.port != 0
        except ValueError:
            good = False
        if not good:
            self.fail(f"{value!r} is not the URL of a service: write http://127.0.0.1:4567", param, ctx)
        return value


ENDPOINT = _Endpoint()
"""The type of every `--endpoint-url`."""


def stream_options(function: _F) -> _F:
    """Add `--stream-arn`, `--application`, `--region`, `--endpoint-url`: a stream without a properties file."""
    for option in (
        click.option(
            "--endpoint-url", type=ENDPOINT, metavar="URL", help="Use this instead of the region's endpoints."
        ),
        click.option("--region", metavar="NAME", help="The AWS region, if it is not that of the ARN."),
        click.option("--application", metavar="NAME", help="The KCL application: the name of the lease table."),
        click.option("--stream-arn", metavar="ARN", help="The stream, if there is no properties file at hand."),
    ):
        function = option(function)
    return function


class StreamTarget(NamedTuple):
    """A stream and its lease table, from a properties file or from options; the name is empty if none gives it."""

    stream_name: str
    stream_arn: str | None
    application: str | None
    table_name: str | None
    region: str | None
    kinesis: Access
    dynamodb: Access


def store_of(store: str | None, properties: str | None) -> str:
    """Return the URL of the store that `--store` or `--properties` names.

    Raises:
        click.UsageError: Neither of them was given, or both.
        ConfigError: The URL or the file is wrong.
    """
    if (store is None) == (properties is None):
        raise click.UsageError("give either --store URL or --properties FILE")
    if properties is not None:
        return load(properties).store
    try:
        return store_url(place_url(store or ""))
    except ValueError as error:
        raise ConfigError(f"--store {store}: {error}", "write: --store file:///absolute/path") from error


def stream_of(
    properties: str | None,
    stream_arn: str | None,
    application: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> StreamTarget | None:
    """Return the stream that the options name, or None if none was given. Single options go before the file.

    Raises:
        ConfigError: An option or the file is wrong.
    """
    if (properties, stream_arn, application, region, endpoint_url) == (None,) * 5:
        return None
    config: ReceiverConfig | None = load(properties) if properties is not None else None
    found = STREAM_ARN.fullmatch(stream_arn) if stream_arn is not None else None
    if stream_arn is not None and found is None:
        raise ConfigError(
            f"--stream-arn {stream_arn} is not the ARN of a stream",
            "write: --stream-arn arn:aws:kinesis:REGION:ACCOUNT:stream/NAME",
        )
    region = region or (found["region"] if found else None)
    return StreamTarget(
        stream_name=found["name"] if found else config.stream_name if config else "",
        stream_arn=stream_arn or (config.stream_arn if config else None),
        application=application or (config.application_name if config else None),
        table_name=application or (config.table_name if config else None),
        region=region or (config.region if config else None),
        kinesis=access_of(config, "kinesis", region, endpoint_url),
        dynamodb=access_of(config, "dynamodb", region, endpoint_url),
    )


def access_of(config: ReceiverConfig | None, service: str, region: str | None, endpoint_url: str | None) -> Access:
    """Return where a service is and as whom it is asked; `--region` and `--endpoint-url` go before the file."""
    if config is None:
        return Access(service, region, endpoint_url)
    return config.access(service, region, endpoint_url)


def require_yes(question: str, otherwise: str, how: str) -> None:
    """Ask a person.

    Args:
        question: The question.
        otherwise: What is said if the answer is no.
        how: The option that spares the question, where nobody can be asked.

    Raises:
        click.UsageError: The answer is no, or there is no terminal.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked: give {how}")
    if not click.confirm(question, err=True):
        raise click.UsageError(otherwise)
