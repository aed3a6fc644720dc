from typing import Any

import pytest

from reports_plugin import Database, count_words, reports

pytest_plugins = ["streamer_worker.testing.fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def streamer_handlers() -> list[object]:
    return [reports, count_words]


@pytest.fixture
def streamer_options() -> dict[str, Any]:
    return {"states": {reports: Database()}}
