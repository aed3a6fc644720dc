"""A fake DynamoDB for the tests of the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from unit.store.dynamo.recorder import Recorder


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
