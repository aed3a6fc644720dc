"""Opening the stores on DynamoDB: session, client, settings."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from streamer_store.clock import Clock, SystemClock
from streamer_store.dynamo.calls import Observe, observe_calls
from streamer_store.dynamo.engine import DynamoEngine
from streamer_store.dynamo.faults import translated
from streamer_store.errors import InvalidInput
from streamer_store.release import release_of
from streamer_store.stores import Report, Stores, log_undecodable, stores_over

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

_LOCAL_REGION = "us-east-1"
_CLOSING = 5.0


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
    validate_parameters: bool = False,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
    observe: Observe | None = None,
) -> AsyncIterator[Stores]:
    """Open the four stores on one client, for as long as the process needs them.

    Where `endpoint_url` and `region` are None, the AWS environment variables and profiles
    decide, AWS_ENDPOINT_URL_DYNAMODB among them; an explicit endpoint needs no region. Time
    limits are in seconds, for each of a call's `attempts`. `observe` is told how long each call
    took and what it consumed (see `dynamo.calls`). Runs on asyncio only. Raises
    InvalidInput when no region is known or the settings are wrong, AccessDenied when only a
    part of the credentials is given.
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
    )
    try:
        with translated("open"):
            client_context = session.create_client(
                "dynamodb",
                endpoint_url=endpoint_url,
                region_name=region or _region(session, endpoint_url),
                config=config,
            )
            client = await client_context.__aenter__()
    except ValueError as error:  # an endpoint that is no URL
        raise InvalidInput(f"AWS settings: {error}", operation="open") from error
    try:
        if observe is not None:
            observe_calls(client, observe)
        engine = DynamoEngine(client=client, prefix=prefix, rng=rng)
        yield stores_over(engine, clock=clock or SystemClock(), rng=rng, report=report)
    finally:
        with anyio.move_on_after(_CLOSING, shield=True):
            await client_context.__aexit__(None, None, None)


async def found_credentials() -> str | None:
    """Return how AWS credentials were found, None where there are none; raises AccessDenied."""
    with translated("credentials"):
        credentials = await get_session().get_credentials()
    return None if credentials is None else str(credentials.method)


def default_region(session: AioSession) -> str | None:
    """Return the region to name where botocore finds none by itself."""
    if session.get_config_variable("region"):
        return None
    # The other AWS SDKs, and whatever runs containers for AWS, go by this one; botocore does not.
    return os.environ.get("AWS_REGION")


def user_agent() -> str:
    return f"streamer-worker/{release_of('streamer-worker')}"


def _region(session: AioSession, endpoint_url: str | None) -> str | None:
    if region := default_region(session):
        return region
    if endpoint_url is None or session.get_config_variable("region"):
        return None
    return _LOCAL_REGION
