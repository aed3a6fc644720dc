"""The examples of docs/storage.md run, one after another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from processes import ROOT
from streamer_store import open_stores

_EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
EXAMPLES = dict(_EXAMPLE.findall((ROOT / "docs" / "storage.md").read_text()))
PRINTED = {
    "connections": ["connected conn-1", "stale 0", "no such connection"],
    "requests": ["COMPLETED {'rows': 1000}", "report half way", "1"],
    "subscriptions": ["conn-1 ['complete']"],
    "bulk": [
        "3 PENDING",
        "1 of 2 items were refused; the first: no such request",
        "297 stored, 3 refused: AlreadyExists",
        "299 cancelled",
        "301 deleted",
    ],
    "transactions": [
        "no such connection gone",
        "taken: step-2",
        "Disconnected(subscriptions=1, cancelled=1)",
    ],
    "cache": ["0 hits, 2 misses", "2 hits, 0 misses"],
    "retention": ["kept until"],
    "transfer": ["exported 4 requests", "written 0 unchanged True"],
}


@pytest.mark.anyio
async def test_the_examples_run_and_print_what_they_should(
    moto_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All of them, on the same tables, in the order of the page."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    monkeypatch.chdir(tmp_path)
    assert list(EXAMPLES) == ["open", *PRINTED]
    opening: dict[str, Any] = {}
    exec(EXAMPLES["open"], opening)  # noqa: S102  the page is ours
    await opening["main"]()
    async with open_stores(prefix="example_", batch_writes=False) as stores:
        for name, expected in PRINTED.items():
            names: dict[str, Any] = {}
            exec(EXAMPLES[name], names)  # noqa: S102
            await names[name](stores)
            lines = capsys.readouterr().out.splitlines()
            found = [line[: len(text)] for line, text in zip(lines, expected, strict=True)]
            assert found == expected, name
