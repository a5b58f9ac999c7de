"""Makes boto3 act under the credentials that KCL acts under: the providers of AwsCredentialsProvider, in their order.

`credentials` says which; here each becomes the one of botocore that finds the same. Credentials that end are renewed
while the process runs: those of a role by asking STS again, others by botocore's own means.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.credentials import (
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    create_credential_resolver,
)
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from kcl_receiver.config.credentials import Identity, Provider, Role, Way

STS_SECONDS = 10
"""How long one call of STS may take to connect, and to be answered."""

_FILES = (
    *("assume-role", "assume-role-with-web-identity", "sso", "shared-credentials-file"),
    *("login", "custom-process", "config-file"),
)
"""botocore's providers that read profiles."""


class Loader:
    """A provider in the form that botocore's resolver asks; what `load` returns is None where it has none."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.METHOD = self.CANONICAL_NAME = name
        self.load = load


def session_of(identity: Identity) -> botocore.session.Session:
    """Return a session of botocore whose clients act as the identity.

    Raises:
        ProfileNotFound: A profile is named that is not there.
    """
    session = botocore.session.Session()
    chain = identity.providers or (Provider(Way.DEFAULT, Way.DEFAULT.value),)
    loaders = [loader for provider in chain for loader in _loaders(identity, provider, last=provider is chain[-1])]
    session.register_component("credential_provider", CredentialResolver(loaders))
    return session


def is_anonymous(identity: Identity) -> bool:
    """Tell whether requests go out unsigned."""
    return bool(identity.providers) and identity.providers[0].way is Way.ANONYMOUS


def _loaders(identity: Identity, provider: Provider, *, last: bool) -> list[Any]:
    """Return what botocore asks, one after the other, for one provider of the file."""
    if provider.role is not None:
        role = provider.role
        return [Loader(provider.text, lambda: _role(identity, role, needed=last))]
    if provider.way is Way.SYSTEM:
        return [Loader(provider.text, lambda: _system(identity))]
    if provider.way is Way.ENVIRONMENT:
        return _of_botocore(None, "env")
    if provider.way is Way.WEB_IDENTITY:
        return _web_identity()
    if provider.way is Way.PROFILE:
        return _profile(provider.profile or identity.profile)
    if provider.way is Way.CONTAINER:
        return _of_botocore(None, "container-role")
    if provider.way is Way.INSTANCE:
        return _of_botocore(None, "iam-role")
    if provider.way is Way.ANONYMOUS:
        return []
    # DefaultCredentialsProvider asks in this order. One of Java's that is foreign to us gives way to it, too.
    return [
        Loader("system-properties", lambda: _system(identity)),
        *_of_botocore(None, "env"),
        *_web_identity(),
        *_profile(identity.profile),
        *_of_botocore(None, "container-role"),
        *_of_botocore(None, "iam-role"),
    ]


def _of_botocore(profile: str | None, *methods: str) -> list[Any]:
    """Return those of botocore's own providers that have one of these names, in their own order."""
    found = create_credential_resolver(botocore.session.Session(profile=profile)).providers
    return [one for one in found if one.METHOD in methods]


def _web_identity() -> list[Any]:
    # By the environment alone, as in Java: the same provider of botocore reads it out of profiles, too.
    return _of_botocore(None, "assume-role-with-web-identity") if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ else []


def _profile(name: str | None) -> list[Any]:
    profile = name or os.environ.get("AWS_PROFILE") or "default"
    known = botocore.session.Session().full_config.get("profiles", {})
    # No profile at all is no error in either half; one that is named and is not there, botocore tells by its name.
    return _of_botocore(profile, *_FILES) if profile in known or name else []


def _system(identity: Identity) -> Credentials | None:
    keys = identity.system
    return None if keys is None else Credentials(keys.access_key, keys.secret_key, keys.token, "system-properties")


def _role(identity: Identity, role: Role, *, needed: bool) -> DeferredRefreshableCredentials | None:
    """Return credentials that ask STS when they are first used; at once, if another provider may do as well."""
    # As in Java, whose client of STS is made of nothing but the default chain.
    base = identity._replace(providers=())

    def assume() -> dict[str, Any]:
        request = {"RoleArn": role.arn, "RoleSessionName": role.session}
        if role.external_id is not None:
            request["ExternalId"] = role.external_id
        try:
            sts = session_of(base).create_client(
                "sts",
                region_name=role.region or identity.region,
                endpoint_url=role.endpoint,
                config=Config(connect_timeout=STS_SECONDS, read_timeout=STS_SECONDS),
            )
            given = sts.assume_role(**request)["Credentials"]
        except (BotoCoreError, ClientError, ValueError) as error:
            raise CredentialRetrievalError(provider=f"role {role.arn}", error_msg=str(error)) from error
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    credentials = DeferredRefreshableCredentials(assume, "assume-role")
    if not needed:
        try:
            credentials.get_frozen_credentials()
        except CredentialRetrievalError:
            # AwsCredentialsProviderChain goes on to the next one, too.
            return None
    return credentials
