"""Open a client of DynamoDB: configuration, region, credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore.loaders import Loader, create_loader

from streamer_store.dynamo.addressing import TablesInForce, endpoint_in_force, region_in_force
from streamer_store.dynamo.calls import Observe, observe_calls
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.credentials import PROGRAM_SECONDS, CredentialPrograms
from streamer_store.dynamo.faults import NO_REGION, translate_errors
from streamer_store.dynamo.parser import AttributeParserFactory
from streamer_store.dynamo.serializer import serialize_statements_directly
from streamer_store.dynamo.session import CheckedSession
from streamer_store.errors import InvalidInput
from streamer_store.release import package_version
from streamer_store.target import Target, without_password

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_CLOSE_TIMEOUT: Final = 5.0
_CREDENTIALS_TIMEOUT: Final = PROGRAM_SECONDS + 5
_MANAGING_CONNECTIONS: Final = 10
_MANAGING_CALL_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClient:
    """A client, and where its endpoint and its region came from (see Target)."""

    client: DynamoDBClient
    endpoint_source: str
    region_source: str

    def target(self, tables: TablesInForce) -> Target:
        """Return what is in force for these tables."""
        return Target(
            endpoint=without_password(self.client.meta.endpoint_url),
            endpoint_source=self.endpoint_source,
            region=self.client.meta.region_name,
            region_source=self.region_source,
            prefix=tables.prefix,
            prefix_source=tables.prefix_source,
            tables=tables.names,
            table_sources=tables.sources,
        )


@asynccontextmanager
async def open_client(
    *,
    endpoint_url: str | None,
    region: str | None,
    max_connections: int,
    connect_timeout: float,
    read_timeout: float,
    attempts: int,
    call_timeout: float,
    validate_parameters: bool,
    session: AioSession | None = None,
) -> AsyncIterator[OpenClient]:
    """Open a client of DynamoDB. The parameters are those of `open_stores`.

    A `session` is left as it is: its credential programs have no time limit of their own.
    Raises InvalidInput; AccessDenied; StoreUnavailable.
    """
    is_own = session is None
    config = client_config(
        CheckedSession,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_connections=max_connections,
        attempts=attempts,
        validate_parameters=validate_parameters,
    )
    with translate_errors("open"):
        session = new_session() if session is None else session
        if is_own:
            session.register_component("response_parser_factory", AttributeParserFactory())
        endpoint = endpoint_in_force(session, endpoint_url)
        place = region_in_force(session, region, endpoint.value)
        if place.value is None:
            raise InvalidInput(NO_REGION, operation="open")
    with translate_errors("credentials"):
        programs = CredentialPrograms(session, place.value) if is_own else None
    await _load_credentials(session, programs)
    if programs is not None:
        # A call may wait twice: for its endpoint, and for its signature.
        programs.wait_seconds = call_timeout / 4
    with translate_errors("open"), anyio.fail_after(_CREDENTIALS_TIMEOUT):
        client_context = session.create_client(
            "dynamodb",
            endpoint_url=endpoint.value,
            region_name=place.value,
            config=config,
        )
        try:
            client = await client_context.__aenter__()
        except ValueError as error:  # botocore raises it for an endpoint that is not a URL
            # With a user and a password in it, the error may be about a part of the password.
            secret = "@" in str(endpoint.value)
            why = "the endpoint is not a URL" if secret else str(error)
            raise InvalidInput(f"AWS settings: {why}", operation="open") from error
    if not validate_parameters:
        serialize_statements_directly(client)
    try:
        yield OpenClient(client=client, endpoint_source=endpoint.source, region_source=place.source)
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            if programs is not None:
                await programs.close()
            await client_context.__aexit__(None, None, None)


@asynccontextmanager
async def open_checked_client(
    *,
    endpoint_url: str | None,
    region: str | None,
    call_timeout: float = _MANAGING_CALL_TIMEOUT,
    observe: Observe | None = None,
) -> AsyncIterator[CheckedClient]:
    """Open a client for calls that manage tables and backups.

    The limits are the defaults of `open_stores`, whose parameters and errors these are.
    """
    async with open_client(
        endpoint_url=endpoint_url,
        region=region,
        max_connections=_MANAGING_CONNECTIONS,
        connect_timeout=3.0,
        read_timeout=10.0,
        attempts=5,
        call_timeout=call_timeout,
        validate_parameters=False,
    ) as opened:
        if observe is not None:
            observe_calls(opened.client, observe)
        yield CheckedClient(opened.client, timeout=call_timeout, observe=observe)


async def credentials_method(*, region: str | None = None) -> str | None:
    """Return botocore's name for the source of the AWS credentials, or None without credentials.

    `region`: where roles are assumed. By default the AWS settings decide.
    Raises AccessDenied; InvalidInput; StoreUnavailable.
    """
    with translate_errors("credentials"):
        session = new_session()
        programs = CredentialPrograms(session, region or default_region(session))
    await _load_credentials(session, programs)
    await programs.close()
    credentials = await session.get_credentials()
    return None if credentials is None else str(credentials.method)


async def _load_credentials(session: AioSession, programs: CredentialPrograms | None) -> None:
    """Load the session's credentials, if there are any. `programs`: closed after an error.

    Raises AccessDenied; InvalidInput; StoreUnavailable.
    """
    with translate_errors("credentials"), anyio.fail_after(_CREDENTIALS_TIMEOUT):
        try:
            await session.get_credentials()
        except BaseException:
            if programs is not None:
                await programs.close()
            raise


def new_session() -> AioSession:
    """Return a session whose service models and endpoint rules are shared with all others.

    They are only read, so clients on different threads may share them. Parsed by each session,
    they take 10 MB of memory and 0.05 s of CPU.
    """
    session = get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@lru_cache(maxsize=1)
def _loader(data_path: str | None) -> Loader:
    return create_loader(data_path)


def default_region(session: AioSession) -> str | None:
    """Return AWS_REGION, or None where botocore's own settings name a region."""
    if session.get_config_variable("region"):
        return None
    # Other AWS SDKs and AWS's container services use AWS_REGION. botocore does not read it.
    return os.environ.get("AWS_REGION")


def client_config(
    http_session: type[AIOHTTPSession],
    *,
    connect_timeout: float,
    read_timeout: float,
    max_connections: int,
    attempts: int = 1,
    validate_parameters: bool = False,
) -> AioConfig:
    """Return the configuration of an AWS client. The parameters are those of `open_stores`."""
    return AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=max_connections,
        parameter_validation=validate_parameters,
        retries={"mode": "standard", "total_max_attempts": attempts},
        # Fixed: botocore would compose one for each call.
        user_agent=f"streamer-worker/{package_version('streamer-worker')}",
        http_session_cls=http_session,
    )
