"""Which credentials KCL acts under, read out of the properties file, so that this package acts under the same.

KCL makes a chain of the providers that AwsCredentialsProvider names, one after the other; a provider that it does not
know, or cannot make with the arguments given, is left out without a word (AwsCredentialsProviderPropertyValueDecoder).
Here such a one is an error. Pure: `aws_credentials` makes boto3's credentials of what is found here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from kcl_receiver.config.kcl_values import Kind, java_split, java_trim, read


class Way(Enum):
    """How a provider comes by its credentials; the text is the name of its class in Java."""

    DEFAULT = "DefaultCredentialsProvider"
    ENVIRONMENT = "EnvironmentVariableCredentialsProvider"
    SYSTEM = "SystemPropertyCredentialsProvider"
    PROFILE = "ProfileCredentialsProvider"
    INSTANCE = "InstanceProfileCredentialsProvider"
    CONTAINER = "ContainerCredentialsProvider"
    WEB_IDENTITY = "WebIdentityTokenFileCredentialsProvider"
    ANONYMOUS = "AnonymousCredentialsProvider"
    ROLE = "StsAssumeRoleCredentialsProvider"
    FOREIGN = ""


class Role(NamedTuple):
    """A role to assume, and the STS to ask: its endpoint and region, or None for those of the region in use."""

    arn: str
    session: str
    external_id: str | None = None
    endpoint: str | None = None
    region: str | None = None


class Provider(NamedTuple):
    """One provider of a chain. `text` is what the file says, without what may be secret."""

    way: Way
    text: str
    profile: str | None = None
    role: Role | None = None


class SystemKeys(NamedTuple):
    """Credentials that the daemon gets as system properties of Java: aws.accessKeyId and its like."""

    access_key: str
    secret_key: str
    token: str | None = None


EMULATOR_KEYS = SystemKeys("emulator", "emulator")
"""Emulators do not look at credentials, but the SDK does not send an unsigned request to find that out."""


class Identity(NamedTuple):
    """Whom a client acts as.

    Attributes:
        providers: Those of the file, in its order; none: the default ones.
        system: The system properties that Java gets.
        profile: The profile that Java gets as a system property, or None.
        region: The region in which a role's STS is asked, if the role says none.
    """

    providers: tuple[Provider, ...] = ()
    system: SystemKeys | None = None
    profile: str | None = None
    region: str | None = None


class Access(NamedTuple):
    """Where a service is, and as whom it is asked; without an identity, as whoever boto3 finds."""

    service: str
    region: str | None
    endpoint: str | None
    identity: Identity | None = None


def is_emulator(endpoint: str | None) -> bool:
    """Tell whether an endpoint is an emulator's: AWS answers over TLS alone, so plain http is never AWS."""
    return (endpoint or "").lower().startswith("http://")


KEYS = {
    "kinesis": ("awsCredentialsProvider",),
    "dynamodb": ("awsCredentialsProviderDynamoDB", "awsCredentialsProvider"),
    "cloudwatch": ("awsCredentialsProviderCloudWatch", "awsCredentialsProvider"),
}
"""The keys for each service, the one that goes first before the other (MultiLangDaemonConfiguration)."""

NESTED = {
    "kinesis": ("kinesisCredentialsProvider.", "kinesisClient.credentialsProvider"),
    "dynamodb": ("dynamoDBCredentialsProvider.", "dynamoDbClient.credentialsProvider"),
}
"""Beginnings of keys by which KCL's own objects get credentials that cannot be taken over here."""

CLIENTS = {"kinesis": "kinesisClient", "dynamodb": "dynamoDbClient"}
"""KCL's objects whose `region` and `endpointOverride` can be set by keys of their names."""

_SDK = "software.amazon.awssdk.auth.credentials."
_KCL = "software.amazon.kinesis.multilang.auth."
_STS = "software.amazon.awssdk.services.sts.auth."

_WAYS = {
    **{way.value: way for way in Way if way is not Way.FOREIGN},
    **{_SDK + way.value: way for way in Way if way not in (Way.FOREIGN, Way.ROLE)},
    "KclStsAssumeRoleCredentialsProvider": Way.ROLE,
    _KCL + "KclStsAssumeRoleCredentialsProvider": Way.ROLE,
    _STS + Way.ROLE.value: Way.ROLE,
}
NAMES = frozenset(_WAYS)
"""Every name of a provider that KCL can make; others must be class names in full."""

UNUSABLE = frozenset({"StaticCredentialsProvider", "ProcessCredentialsProvider", "AwsCredentialsProviderChain"})
"""Providers of the AWS SDK that KCL knows by name and cannot make out of text."""

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+")
_SESSION = re.compile(r"[\w+=.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=.@:/-]{2,1224}", re.ASCII)
_REGION = re.compile(r"[a-z]{2,6}(-[a-z]+)+-[0-9]+")


def parse(text: str) -> tuple[Provider, ...]:
    """Return the chain that a value of AwsCredentialsProvider makes.

    Raises:
        ValueError: KCL would leave a provider, or an argument of one, out; the text says which, and no secret.
    """
    elements = [element for element in map(java_trim, java_split(text, ",")) if element]
    if not elements:
        raise ValueError("names no provider: the daemon would not start")
    return tuple(map(_provider, elements))


def shown(text: str) -> str:
    """Return a value of AwsCredentialsProvider without what may be a secret in it."""
    return ",".join(_shown(element) for element in text.split(","))


def _shown(element: str) -> str:
    name, bar, _ = element.partition("|")
    known = _WAYS.get(java_trim(name)) in (Way.ROLE, Way.PROFILE)
    return element if known or not bar else f"{name}|…"


def _provider(element: str) -> Provider:
    name, *arguments = java_split(element, "|")
    way = _WAYS.get(name)
    if way is Way.ROLE:
        return Provider(way, element, role=_role(arguments))
    if way is Way.PROFILE and len(arguments) == 1:
        return Provider(way, element, profile=arguments[0])
    if way is not None and not arguments:
        return Provider(way, element)
    if way is not None:
        raise ValueError(
            f"{name} takes {'one argument' if way is Way.PROFILE else 'no arguments'}, and KCL drops others"
        )
    if name.rpartition(".")[2] in UNUSABLE:
        raise ValueError(f"KCL cannot make a {name}, and leaves it out")
    if "." not in name or name != java_trim(name):
        raise ValueError(f"KCL knows no provider {name!r}, and leaves it out")
    return Provider(Way.FOREIGN, _shown(element))


def _role(arguments: list[str]) -> Role:
    if len(arguments) < 2:
        raise ValueError("a role needs its ARN and a name for the session: KCL leaves it out")
    arn, session, *more = arguments
    if _ROLE_ARN.fullmatch(arn) is None:
        raise ValueError(f"{arn!r} is not the ARN of a role")
    if _SESSION.fullmatch(session) is None:
        raise ValueError(f"{session!r} is not a name for a session: 2 to 64 letters, digits and +=.@-_")
    said: dict[str, str] = {}
    for argument in more:
        key, _, value = argument.partition("=")
        if key not in ("endpoint", "endpointRegion", "externalId") or not value or "=" in value:
            raise ValueError(
                f"KCL drops {argument!r}: a role takes endpoint=URL^REGION, endpointRegion=REGION, externalId=ID"
            )
        if key in said:
            raise ValueError(f"{key} is there twice")
        said[key] = value
    if "externalId" in said and _EXTERNAL_ID.fullmatch(said["externalId"]) is None:
        raise ValueError(f"STS takes no external id {said['externalId']!r}: 2 to 1224 letters, digits and +=.@:/-_")
    endpoint, region = None, said.get("endpointRegion")
    if "endpoint" in said:
        endpoint, caret, at = said["endpoint"].partition("^")
        if not caret or region is not None or "^" in at:
            raise ValueError("an endpoint is written as endpoint=URL^REGION, without an endpointRegion beside it")
        endpoint, region = endpoint if "://" in endpoint else f"https://{endpoint}", at
        read(Kind.URL, endpoint)
    if region is not None and _REGION.fullmatch(region) is None:
        raise ValueError(f"{region!r} is not the name of a region")
    return Role(arn, session, said.get("externalId"), endpoint, region)


def instead(text: str) -> str:
    """Return a value to write instead of one that `parse` refuses: what can be kept of it is, with its arguments."""
    return ", ".join(filter(None, map(_mended, map(java_trim, text.split(","))))) or Way.DEFAULT.value


def _mended(element: str) -> str:
    name, bar, arguments = element.partition("|")
    near = [] if java_trim(name).rpartition(".")[2] in UNUSABLE else NAMES
    close = difflib.get_close_matches(java_trim(name), near, n=1, cutoff=0.75)
    names = [java_trim(name), *close]
    for candidate in (one + rest for one in names for rest in (bar + arguments, bar + arguments.partition("|")[0], "")):
        try:
            return _provider(candidate).text
        except ValueError:
            continue
    if any(_WAYS.get(one) is Way.ROLE for one in names):
        return _role_instead(names[-1], arguments.split("|"))
    return ""


def _role_instead(name: str, arguments: list[str]) -> str:
    arn = next((one for one in arguments if _ROLE_ARN.fullmatch(one)), "arn:aws:iam::123456789012:role/NAME")
    session = next((one for one in arguments[1:] if _SESSION.fullmatch(one) and "=" not in one), "SESSION")
    kept = [name, arn, session]
    for argument in arguments[1:]:
        if "=" in argument and _accepts([*kept[1:], argument]):
            kept.append(argument)
    return "|".join(kept)


def _accepts(arguments: list[str]) -> bool:
    try:
        _role(arguments)
    except ValueError:
        return False
    return True


def system_keys(options: Iterable[str]) -> tuple[SystemKeys | None, str | None, str | None]:
    """Return the credentials, the profile and the region that options of java set as system properties."""
    found = dict(option[2:].partition("=")[::2] for option in options if option.startswith("-Daws."))
    key, secret = found.get("aws.accessKeyId", ""), found.get("aws.secretAccessKey", "")
    keys = SystemKeys(key, secret, found.get("aws.sessionToken") or None) if key and secret else None
    return keys, found.get("aws.profile") or None, found.get("aws.region") or None


def chain(text: str) -> tuple[Provider, ...]:
    """Return what `parse` returns, and nothing for a value that it refuses."""
    try:
        return parse(text)
    except ValueError:
        return ()


def providers(raw: Mapping[str, str], service: str) -> tuple[Provider, ...]:
    """Return the chain of one service; empty if the file names none, or one that is refused."""
    by_name = {canonical(key): text for key, text in raw.items()}
    said = [by_name[key] for key in KEYS[service] if by_name.get(key, "").strip()]
    return chain(said[0]) if said else ()


def canonical(key: str) -> str:
    """Return the key as the daemon looks it up: `AWSCredentialsProvider…` in any case is one key."""
    prefix = "awsCredentialsProvider"
    return prefix + key[len(prefix) :] if key.lower().startswith(prefix.lower()) else key
