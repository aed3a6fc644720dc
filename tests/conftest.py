"""Backends for the tests. Memory and moto are always there; DynamoDB Local when installed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dynamodb_local import HINT as NOT_INSTALLED
from dynamodb_local import NotInstalledError, dynamodb_local, use_dummy_credentials
from hanging import pytest_timeout_set_timer  # noqa: F401  a hook
from models import parse_once
from streamer_store import Stores, Undecodable, memory_stores, open_stores
from streamer_store.schema import TABLES
from streamer_worker.demo.moto import embedded_dynamodb
from streamer_worker.own_logger import set_logger_factory
from support import ManualClock, client_of, unique_prefix

parse_once()
# A shell starts background jobs with SIGINT ignored, and the processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

HINT = f"{NOT_INSTALLED}, or set STREAMER_TEST_DYNAMODB_URL"
BACKENDS = ["memory", "moto", pytest.param("local", marks=pytest.mark.local)]
"""The engines of the `stores` fixture. moto cannot do what batches of writes need."""

# Seconds for one test with its fixtures, where that is more than `timeout` in pyproject.toml. The
# first test of a module waits for what the module shares: an image, an environment, a server.
TIMEOUTS = {
    "costs": 600,
    "deploy": 300,
    "guide": 900,
    "image": 1800,
    "integration": 300,
    "properties": 300,
    "simulation": 900,
}


# Files that take longest begin first. A long file that begins last is waited for by one process,
# while the others have nothing to do (Makefile: --no-loadscope-reorder).
LONGEST = (
    "simulation/test_schedules.py",
    "simulation/test_poison.py",
    "integration/test_poison.py",
    "integration/test_transfer_kills.py",
    "integration/test_bulk_kills.py",
    "integration/test_outages.py",
    "integration/test_demo.py",
    "integration/test_gateway.py",
    "integration/test_fleet.py",
    "integration/test_forks.py",
    "integration/test_exits.py",
    "guide/test_readme.py",
    "guide/test_handlers_page.py",
    "unit/worker/intake/test_poller_tenants.py",
    "unit/worker/execution/processes/test_pool.py",
    "integration/test_prometheus.py",
    "integration/test_rubbish_worker.py",
    "integration/test_collisions.py",
    "integration/test_systemd.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if folder in TIMEOUTS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUTS[folder]))
    ranks = {here / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session", autouse=True)
def _dummy_credentials() -> Iterator[None]:
    before = dict(os.environ)
    use_dummy_credentials()
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """Undo what a command that ran in this process has set up."""
    yield
    set_logger_factory(None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@pytest.fixture
def undecodable() -> list[Undecodable]:
    """Collect what the stores reported as undecodable."""
    return []


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with embedded_dynamodb() as url:
        yield url


@pytest.fixture(scope="session")
def local_url() -> Iterator[str]:
    """Give the URL of DynamoDB Local: a running one, or one started for this run."""
    running = os.environ.get("STREAMER_TEST_DYNAMODB_URL")
    if running:
        yield running
        return
    try:
        with dynamodb_local() as url:
            yield url
    except NotInstalledError:
        if os.environ.get("STREAMER_TEST_REQUIRE_ALL"):
            pytest.fail(HINT)
        pytest.skip(HINT)


@pytest.fixture(params=BACKENDS)
async def stores(
    request: pytest.FixtureRequest,
    clock: ManualClock,
    rng: random.Random,
    undecodable: list[Undecodable],
) -> AsyncIterator[Stores]:
    """Give fresh stores of each kind, with empty tables."""
    if request.param == "memory":
        yield memory_stores(clock=clock, rng=rng, report=undecodable.append)
        return
    url = request.getfixturevalue(f"{request.param}_url")
    async with fresh_stores(
        url,
        clock=clock,
        rng=rng,
        undecodable=undecodable,
        batch_writes=request.param != "moto",
    ) as opened:
        yield opened


@pytest.fixture
async def local_stores(
    local_url: str, clock: ManualClock, rng: random.Random, undecodable: list[Undecodable]
) -> AsyncIterator[Stores]:
    """Give fresh stores on DynamoDB Local, for what only the real engine can prove."""
    async with fresh_stores(local_url, clock=clock, rng=rng, undecodable=undecodable) as opened:
        yield opened


@asynccontextmanager
async def fresh_stores(
    url: str,
    *,
    clock: ManualClock,
    rng: random.Random,
    undecodable: list[Undecodable],
    batch_writes: bool = True,
) -> AsyncIterator[Stores]:
    prefix = unique_prefix()
    async with open_stores(
        endpoint_url=url,
        prefix=prefix,
        clock=clock,
        rng=rng,
        report=undecodable.append,
        validate_parameters=True,
        batch_writes=batch_writes,
    ) as opened:
        await opened.create_tables()
        try:
            yield opened
        finally:
            await _drop_tables(opened)


async def _drop_tables(stores: Stores) -> None:
    for table in TABLES:
        await client_of(stores.engine).delete_table(TableName=stores.engine.table_name(table))
