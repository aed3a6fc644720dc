"""Opening the stores on DynamoDB: session, client, settings."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from streamer_store.clock import Clock, SystemClock
from streamer_store.decoding import Report
from streamer_store.dynamo.calls import Observe, observe_calls
from streamer_store.dynamo.credentials import PROGRAM_SECONDS, CredentialPrograms
from streamer_store.dynamo.engine import DynamoEngine
from streamer_store.dynamo.faults import translated
from streamer_store.dynamo.session import CheckedSession
from streamer_store.errors import InvalidInput, StoreError
from streamer_store.release import package_version
from streamer_store.stores import Stores, log_undecodable, stores_over

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

_LOCAL_REGION = "us-east-1"
_CLOSING = 5.0
_CREDENTIALS_WITHIN = PROGRAM_SECONDS + 5


@asynccontextmanager
async def open_stores(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    prefix: str = "streamer_",
    max_connections: int = 50,
    connect_timeout: float = 3.0,
    read_timeout: float = 10.0,
    attempts: int = 5,
    call_timeout: float = 30.0,
    validate_parameters: bool = False,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
    observe: Observe | None = None,
) -> AsyncIterator[Stores]:
    """Open the four stores on one client, for as long as the process needs them.

    Where `endpoint_url` and `region` are None, the AWS environment variables and profiles
    decide, AWS_ENDPOINT_URL_DYNAMODB among them; an explicit endpoint needs no region.
    `connect_timeout` and `read_timeout` are in seconds, for each of a call's `attempts`.
    `call_timeout` is for the whole call: fetching credentials, all attempts, the pauses between
    them. `observe` is told how long each call took and
    what it consumed (see `dynamo.calls`).

    Runs on asyncio only. The stores work in the event loop that opened them, until the context
    is left; elsewhere each call raises StoreError. Raises InvalidInput when no region is known
    or the settings are wrong, AccessDenied when only a part of the credentials is given,
    StoreUnavailable when the credentials do not come.
    """
    rng = rng or random.SystemRandom()
    session = get_session()
    config = AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=max_connections,
        parameter_validation=validate_parameters,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent=user_agent(),
        http_session_cls=CheckedSession,
    )
    with translated("open"):
        region = region or _region(session, endpoint_url)
    programs = await _load_credentials(session, region)
    # A call may wait twice: when its endpoint is resolved, and when it is signed.
    programs.wait = call_timeout / 4
    with translated("open"), anyio.fail_after(_CREDENTIALS_WITHIN):
        client_context = session.create_client(
            "dynamodb",
            endpoint_url=endpoint_url,
            region_name=region,
            config=config,
        )
        try:
            client = await client_context.__aenter__()
        except ValueError as error:  # an endpoint that is no URL
            raise InvalidInput(f"AWS settings: {error}", operation="open") from error
    home = _Home()
    try:
        if observe is not None:
            observe_calls(client, observe)
        engine = DynamoEngine(
            client=client,
            prefix=prefix,
            rng=rng,
            timeout=call_timeout,
            require_open=home.require,
            observe=observe,
        )
        yield stores_over(engine, clock=clock or SystemClock(), rng=rng, report=report)
    finally:
        home.closed = True
        with anyio.move_on_after(_CLOSING, shield=True):
            await programs.close()
            await client_context.__aexit__(None, None, None)


class _Home:
    """Where a client may be used: in the event loop that opened it, until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed = False

    def require(self) -> None:
        """Raise StoreError where the client cannot be used."""
        if self.closed or self._loop.is_closed():
            state = "are closed"
        elif asyncio.get_running_loop() is not self._loop:
            state = "belong to another event loop"
        else:
            return
        raise StoreError(
            f"these stores {state}: use them inside `async with open_stores(...)`, in the event"
            " loop that opened them. Each asyncio.run() has an event loop of its own",
            operation="open",
        )


async def found_credentials() -> str | None:
    """Return how AWS credentials were found, None where there are none; raises AccessDenied."""
    session = get_session()
    with translated("credentials"):
        region = default_region(session)
    await (await _load_credentials(session, region)).close()
    credentials = await session.get_credentials()
    return None if credentials is None else str(credentials.method)


async def _load_credentials(session: AioSession, region: str | None) -> CredentialPrograms:
    """Have the session find its credentials, if there are any.

    Raises AccessDenied; InvalidInput; StoreUnavailable.
    """
    with translated("credentials"), anyio.fail_after(_CREDENTIALS_WITHIN):
        programs = CredentialPrograms(session, region)
        try:
            await session.get_credentials()
        except BaseException:
            await programs.close()
            raise
    return programs


def default_region(session: AioSession) -> str | None:
    """Return the region to name where botocore finds none by itself."""
    if session.get_config_variable("region"):
        return None
    # The other AWS SDKs, and whatever runs containers for AWS, go by this one; botocore does not.
    return os.environ.get("AWS_REGION")


def user_agent() -> str:
    return f"streamer-worker/{package_version('streamer-worker')}"


def _region(session: AioSession, endpoint_url: str | None) -> str | None:
    if region := default_region(session):
        return region
    if endpoint_url is None or session.get_config_variable("region"):
        return None
    return _LOCAL_REGION
