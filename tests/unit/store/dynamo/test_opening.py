"""Opening the stores: the sources of settings, and the errors for wrong ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiobotocore.endpoint import AioEndpoint

from streamer_store import (
    AccessDenied,
    Cache,
    InvalidInput,
    StoreError,
    Stores,
    StoreUnavailable,
    open_stores,
)
from streamer_store.dynamo.connecting import new_session
from streamer_store.schema import CONNECTIONS, WORKERS
from support import client_of
from unit.store.dynamo.recorder import Recorder

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all AWS settings but dummy credentials."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "dummy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dummy")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the client's pauses between attempts instead of waiting."""
    recorded: list[float] = []

    async def record(_: AioEndpoint, seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr(AioEndpoint, "_sleep", record)
    return recorded


def sessions_of(stores: Stores) -> list[Any]:
    return list(client_of(stores.engine)._endpoint.http_session._sessions.values())


async def call(stores: Stores) -> None:
    assert await stores.engine.get(WORKERS, "w1") is None


async def test_an_explicit_endpoint_needs_no_region(recorder: Recorder) -> None:
    """An address is enough for DynamoDB Local."""
    async with open_stores(endpoint_url=recorder.url) as stores:
        await call(stores)


async def test_an_endpoint_in_the_environment_and_a_region_are_enough(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_ENDPOINT_URL_DYNAMODB is used where no endpoint is given."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", recorder.url)
    async with open_stores(region="eu-west-1") as stores:
        await call(stores)
        assert client_of(stores.engine).meta.region_name == "eu-west-1"


@pytest.mark.parametrize("name", ["AWS_DEFAULT_REGION", "AWS_REGION"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:1"])
async def test_a_region_in_the_environment_is_used(
    name: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both variables work, also with an explicit endpoint."""
    monkeypatch.setenv(name, "eu-central-1")
    async with open_stores(endpoint_url=endpoint) as stores:
        assert client_of(stores.engine).meta.region_name == "eu-central-1"


async def test_arguments_override_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoint and region of the call are used, not those of the environment."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    async with open_stores(endpoint_url=recorder.url, region="eu-west-1") as stores:
        await call(stores)
        assert client_of(stores.engine).meta.region_name == "eu-west-1"


async def test_the_region_of_a_profile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_PROFILE names a profile in the configuration file."""
    config = tmp_path / "config"
    config.write_text("[profile mine]\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    async with open_stores() as stores:
        meta = client_of(stores.engine).meta
        assert meta.region_name == "eu-north-1"
        assert meta.endpoint_url == "https://dynamodb.eu-north-1.amazonaws.com"


async def test_a_missing_region_is_refused() -> None:
    """The error names the settings for a region."""
    with pytest.raises(InvalidInput, match=r"no AWS region.*AWS_REGION.*profile") as caught:
        async with open_stores():
            pass
    assert caught.value.operation == "open"


async def test_an_unknown_profile_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the profile."""
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(InvalidInput, match="nobodys"):
        async with open_stores(endpoint_url="http://127.0.0.1:1"):
            pass


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "not a url", "http://"])
async def test_an_invalid_endpoint_is_refused(url: str) -> None:
    """The error is InvalidInput, not an exception of botocore."""
    with pytest.raises(InvalidInput, match="Invalid endpoint"):
        async with open_stores(endpoint_url=url):
            pass


async def test_an_invalid_region_is_refused() -> None:
    """The error names the region."""
    with pytest.raises(InvalidInput, match="eu west"):
        async with open_stores(region="eu west"):
            pass


async def test_without_credentials_the_first_call_is_denied(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening works without credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_stores(endpoint_url=recorder.url) as stores:
        with pytest.raises(AccessDenied, match="no usable AWS credentials") as caught:
            await call(stores)
    assert caught.value.operation == "GetItem"


async def test_incomplete_credentials_are_refused_at_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key without its secret is an error of configuration."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDenied, match="AWS_SECRET_ACCESS_KEY"):
        async with open_stores(endpoint_url="http://127.0.0.1:1"):
            pass


async def test_a_refused_connection_is_an_outage_after_five_attempts(pauses: list[float]) -> None:
    """There are four pauses of at most 1, 2, 4 and 8 seconds, and then StoreUnavailable."""
    async with open_stores(endpoint_url="http://127.0.0.1:1") as stores:
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await call(stores)
    assert len(pauses) == 4
    assert all(pause <= 2**n for n, pause in enumerate(pauses))


async def test_the_user_agent_is_fixed(recorder: Recorder) -> None:
    """All calls have the same User-Agent header."""
    recorder.headers.clear()
    async with open_stores(endpoint_url=recorder.url) as stores:
        await call(stores)
        await call(stores)
    agents = {headers["User-Agent"] for headers in recorder.headers}
    assert len(recorder.headers) == 2
    assert len(agents) == 1
    assert agents.pop().startswith("streamer-worker/")


async def test_the_prefix_is_part_of_the_table_names() -> None:
    """Two installations in one account use different prefixes."""
    async with open_stores(endpoint_url="http://127.0.0.1:1", prefix="mine_") as stores:
        assert stores.engine.table_name(WORKERS) == "mine_workers"


async def test_limits_are_passed_to_the_client() -> None:
    """These are the timeouts, the size of the connection pool, and validation."""
    async with open_stores(
        endpoint_url="http://127.0.0.1:1",
        max_connections=3,
        connect_timeout=1.5,
        read_timeout=2.5,
        validate_parameters=True,
    ) as stores:
        config = client_of(stores.engine).meta.config
        assert (config.max_pool_connections, config.connect_timeout) == (3, 1.5)
        assert (config.read_timeout, config.parameter_validation) == (2.5, True)


async def test_a_cache_answers_no_call_of_closed_stores(recorder: Recorder) -> None:
    """Nor one of another event loop."""
    async with open_stores(endpoint_url=recorder.url, cache=Cache(max_age=60)) as stores:
        recorder.body = (
            b'{"Item": {"ConnectionID": {"S": "c1"}, "ConnectedAt": {"S": "2026-01-01T00:00:00Z"}}}'
        )
        await stores.engine.get(CONNECTIONS, "c1")
        count = len(recorder.headers)
        await stores.engine.get(CONNECTIONS, "c1")
        assert len(recorder.headers) == count

        async def elsewhere() -> None:
            with pytest.raises(StoreError, match="another event loop"):
                await stores.engine.get(CONNECTIONS, "c1")

        await anyio.to_thread.run_sync(anyio.run, elsewhere)
    with pytest.raises(StoreError, match="closed"):
        await stores.engine.get(CONNECTIONS, "c1")
    recorder.body = b"{}"


async def test_the_client_is_closed_with_the_context(recorder: Recorder) -> None:
    """No connection remains open."""
    async with open_stores(endpoint_url=recorder.url) as stores:
        await call(stores)
        sessions = sessions_of(stores)
        assert not sessions[0].closed
    assert all(session.closed for session in sessions)


@pytest.mark.parametrize("error", [KeyError("mine"), OSError("mine"), TimeoutError("mine")])
async def test_an_error_in_the_block_is_not_changed(recorder: Recorder, error: Exception) -> None:
    """The client is closed, and the error is raised as it is."""
    sessions = []

    async def block() -> None:
        async with open_stores(endpoint_url=recorder.url) as stores:
            await call(stores)
            sessions.extend(sessions_of(stores))
            raise error

    with pytest.raises(type(error)) as caught:
        await block()
    assert caught.value is error
    assert [session.closed for session in sessions] == [True]


async def test_a_cancelled_block_closes_the_client(recorder: Recorder) -> None:
    """Closing is shielded from cancellation, so no connection remains open."""
    with anyio.CancelScope() as scope:
        async with open_stores(endpoint_url=recorder.url) as stores:
            await call(stores)
            sessions = sessions_of(stores)
            http_session = client_of(stores.engine)._endpoint.http_session
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert [session.closed for session in sessions] == [True]
    assert http_session._sessions is None


async def test_closing_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not close does not block the program."""
    monkeypatch.setattr("streamer_store.dynamo.connecting._CLOSE_TIMEOUT", 0.01)
    async with open_stores(endpoint_url="http://127.0.0.1:1") as stores:
        http_session = client_of(stores.engine)._endpoint.http_session

        async def hang(*_: object) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(http_session, "__aexit__", hang)
        close = http_session._exit_stack.aclose
    await close()


def test_stores_cannot_be_used_after_their_event_loop(recorder: Recorder) -> None:
    """The error explains that each `asyncio.run` has its own event loop."""

    async def open_them() -> Stores:
        return await open_stores(endpoint_url=recorder.url).__aenter__()

    async def close_them() -> Stores:
        async with open_stores(endpoint_url=recorder.url) as stores:
            return stores

    for opening in (open_them, close_them):
        stores = asyncio.run(opening())
        with pytest.raises(StoreError, match=r"are closed: use them inside `async with") as caught:
            asyncio.run(call(stores))
        assert "asyncio.run() has an event loop of its own" in str(caught.value)


async def test_stores_cannot_be_used_in_another_event_loop(recorder: Recorder) -> None:
    """They raise StoreError in another thread, and still work in their own."""
    async with open_stores(endpoint_url=recorder.url) as stores:
        await call(stores)
        with pytest.raises(StoreError, match="belong to another event loop"):
            await anyio.to_thread.run_sync(asyncio.run, call(stores))
        await call(stores)


def test_sessions_share_the_service_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """botocore reads them from files once, and again for another AWS_DATA_PATH."""

    def loader() -> Any:
        return new_session().get_component("data_loader")

    first = loader()
    assert loader() is first
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    assert str(tmp_path) in loader().search_paths
