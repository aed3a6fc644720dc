"""The example of docs/producers.md runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from processes import ROOT
from streamer_store import open_stores_sync
from streamer_store.schema import TABLES
from support import unique_prefix

PAGE = (ROOT / "docs" / "producers.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.local
def test_the_lambda_function_stores_a_request(
    local_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tables that the worker's variables name. A second delivery stores no other one."""
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", local_url)
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", unique_prefix())
    with open_stores_sync() as stores:
        stores.create_tables()
        names: dict[str, Any] = {}
        exec(EXAMPLES["lambda"], names)  # noqa: S102  the page is ours
        with names["stores"]:
            answers = [names["handler"]({"id": "e1", "rows": 5}, None) for _ in range(2)]
        assert answers == 2 * [{"request_id": "e1", "status": "PENDING"}]
        assert stores.requests.get("e1").payload == {"id": "e1", "rows": 5}


def test_the_variables_are_those_that_the_store_reads() -> None:
    """The table of the page has the names in the code."""
    code = (ROOT / "store/streamer_store/dynamo/addressing.py").read_text()
    read = set(re.findall(r'"((?:STREAMER|AWS)_\w+)"', code))
    read.remove("STREAMER_TABLE_NAMES_")
    read |= {f"STREAMER_TABLE_NAMES_{table.name.upper()}" for table in TABLES}
    assert read <= set(re.findall(r"`(\w+)`", PAGE))
