"""The tables, the endpoint and the region that are in force, and where they come from.

An argument comes first, then a STREAMER_ variable, then the AWS settings: environment and profile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamer_store.errors import InvalidInput
from streamer_store.schema import TABLES
from streamer_store.table_names import DEFAULT_PREFIX, TableNames
from streamer_store.target import is_aws_endpoint

if TYPE_CHECKING:
    from botocore.session import Session

ARGUMENT: Final = "argument"
DEFAULT: Final = "default"
CLIENT: Final = "client"
_PREFIX: Final = "STREAMER_TABLE_PREFIX"
_NAMES: Final = "STREAMER_TABLE_NAMES_"
_ENDPOINT: Final = "STREAMER_ENDPOINT_URL"
_REGION: Final = "STREAMER_REGION"
_EMULATOR_REGION: Final = "us-east-1"
# AWS SDKs and Tools Reference Guide, "Service-specific endpoints".
_AWS_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL")


class Sourced(NamedTuple):
    """A value and its source (see Target). None: AWS's own default holds."""

    value: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The endpoint and the region that a client would use. None: AWS's own, or none at all."""

    endpoint: Sourced
    region: Sourced


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesInForce:
    """The names of the tables, and where they come from (see Target)."""

    names: TableNames
    sources: Mapping[str, str]
    prefix: str
    prefix_source: str


def configured_address(*, endpoint_url: str | None, region: str | None) -> Address:
    """Return what `open_stores` would use, without credentials or a call.

    Raises InvalidInput for AWS settings that are wrong.
    """
    # Without the client, which takes three times as long to import.
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    try:
        session = get_session()
        endpoint = endpoint_in_force(session, endpoint_url)
        return Address(endpoint=endpoint, region=region_in_force(session, region, endpoint.value))
    except BotoCoreError as error:
        raise InvalidInput(f"AWS settings: {error}", operation="open") from error


def tables_in_force(prefix: str | None, table_names: Mapping[str, str] | None) -> TablesInForce:
    """Return the names of the tables, and their sources.

    There are three cases for each table:

    1. `table_names` has its name.
    2. STREAMER_TABLE_NAMES_REQUESTS, or the like, is its name. Beside the argument `prefix` these
       variables do not count: a program that names a prefix must not reach other tables.
    3. It has the prefix: the argument, STREAMER_TABLE_PREFIX, or `streamer_`.

    Raises ValidationError with every fault.
    """
    own_names = _names_of_environment() if prefix is None else {}
    own_names |= {table: (name, ARGUMENT) for table, name in (table_names or {}).items()}
    prefix, prefix_source = _own(prefix, _PREFIX) or (DEFAULT_PREFIX, DEFAULT)
    by_table = {table: name for table, (name, _) in own_names.items()}
    sources = {table: source for table, (_, source) in own_names.items()}
    return TablesInForce(
        names=TableNames.from_prefix(prefix, by_table),
        sources={table.name: sources.get(table.name, prefix_source) for table in TABLES},
        prefix=prefix,
        prefix_source=prefix_source,
    )


def _names_of_environment() -> dict[str, tuple[str, str]]:
    """Return the tables that have a variable, with its value and its name."""
    return {
        variable[len(_NAMES) :].lower(): (value, variable)
        for variable, value in os.environ.items()
        # The worker accepts its variables in any case.
        if value and variable.upper().startswith(_NAMES)
    }


def endpoint_in_force(session: Session, endpoint_url: str | None) -> Sourced:
    """Return the endpoint: the argument, STREAMER_ENDPOINT_URL, or what the AWS settings name.

    None: AWS's own endpoint of the region.
    """
    return Sourced(*(_own(endpoint_url, _ENDPOINT) or _aws_endpoint(session) or (None, DEFAULT)))


def region_in_force(session: Session, region: str | None, endpoint: str | None) -> Sourced:
    """Return the region: the argument, STREAMER_REGION, or what the AWS settings name.

    Without any, it is us-east-1 for an endpoint that is not AWS's, and otherwise None.
    """
    if own := _own(region, _REGION):
        return Sourced(*own)
    if of_settings := session.get_config_variable("region"):
        variable = "AWS_DEFAULT_REGION"
        by_variable = os.environ.get(variable) == of_settings
        return Sourced(str(of_settings), variable if by_variable else _profile(session))
    # Other AWS SDKs and AWS's container services use AWS_REGION. botocore does not read it.
    if of_environment := os.environ.get("AWS_REGION"):
        return Sourced(of_environment, "AWS_REGION")
    if endpoint is None or is_aws_endpoint(endpoint):
        return Sourced(None, DEFAULT)
    return Sourced(_EMULATOR_REGION, DEFAULT)


def _own(argument: str | None, variable: str) -> tuple[str, str] | None:
    """Return the argument, or else the value of a STREAMER_ variable. An empty one is unset."""
    if argument is not None:
        return argument, ARGUMENT
    if value := os.environ.get(variable):
        return value, variable
    # The worker accepts its variables in any case.
    for name, value in os.environ.items():
        if value and name.upper() == variable:
            return value, name
    return None


def _aws_endpoint(session: Session) -> tuple[str, str] | None:
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    for variable in _AWS_ENDPOINTS:
        if url := os.environ.get(variable):
            return url, variable
    profile: dict[str, Any] = session.get_scoped_config()
    services: dict[str, Any] = session.full_config.get("services", {})
    of_service = services.get(profile.get("services", ""), {}).get("dynamodb", {})
    url = of_service.get("endpoint_url") or profile.get("endpoint_url")
    return (url, _profile(session)) if url else None


def _profile(session: Session) -> str:
    return f"profile {session.profile or 'default'}"
