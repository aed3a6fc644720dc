from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from conftest import fresh_stores
from integration.gateway import plain_server, server
from integration.proxy import Proxy, proxy_to
from plugins import SLOW_ENTRIES, SLOW_PLUGIN, plugin
from processes import ROOT, install
from streamer_store import Stores, open_stores
from streamer_store.engine import Engine, Scan
from streamer_store.memory import MemoryEngine
from streamer_store.schema import TABLES
from support import ManualClock

__all__ = ["plain_server", "server"]


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.local)])
def inner(request: pytest.FixtureRequest) -> Engine:
    """Give an empty engine to build stores over. It is not moto, because its writes are judged.

    A file that uses it has an `anyio_backend` for the whole file.
    """
    if request.param == "memory":
        return MemoryEngine()
    engine: Engine = request.getfixturevalue("empty_local_engine")
    return engine


@pytest.fixture(scope="module")
async def local_engine(local_url: str) -> AsyncIterator[Engine]:
    """Give an engine with one client and one set of tables for the tests of a file."""
    opening = fresh_stores(local_url, clock=ManualClock(), rng=random.Random(7), undecodable=[])
    async with opening as opened:
        yield opened.engine


@pytest.fixture
async def empty_local_engine(local_engine: Engine) -> Engine:
    for table in TABLES:
        page = await local_engine.scan(Scan(table=table, attributes=(table.hash_key,)))
        assert page.last_evaluated_key is None
        await local_engine.delete_many(table, [item[table.hash_key]["S"] for item in page.items])
    return local_engine


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the example plugin, and one with odd handlers; give their PYTHONPATH."""
    folder = tmp_path_factory.mktemp("plugins")
    source = shutil.copytree(ROOT / "examples" / "reports-plugin", folder / "example")
    example = install(source, folder / "installed")
    return f"{example}:{plugin(folder, 'slow', SLOW_PLUGIN, *SLOW_ENTRIES)}"


@pytest.fixture
async def real(local_url: str) -> AsyncIterator[tuple[Stores, dict[str, str]]]:
    """Give stores on real time, and the settings of a worker on the same tables."""
    prefix = f"run{datetime.now(UTC):%H%M%S%f}_"
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        await stores.create_tables()
        yield (
            stores,
            {
                "STREAMER_ENDPOINT_URL": local_url,
                "STREAMER_TABLE_PREFIX": prefix,
                "STREAMER_HTTP_PORT": "0",
                "STREAMER_HTTP_HOST": "127.0.0.1",
            },
        )


@pytest.fixture
def proxy(local_url: str) -> Iterator[Proxy]:
    with proxy_to(local_url) as opened:
        yield opened
