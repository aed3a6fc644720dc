"""The payloads and results of the requests."""

from __future__ import annotations

import json
from typing import Any, Final

RESULT: Final[dict[str, Any]] = {"rows": 128, "url": "https://example.com/reports/7"}
"""What a no-op handler returns."""


def payload(size: int) -> dict[str, Any]:
    """Return a payload with nested values. size: its bytes as JSON. Raises ValueError."""
    found: dict[str, Any] = {
        "report": "sales",
        "user": {"id": 4711, "name": "Alex Example", "roles": ["viewer", "editor"]},
        "range": {"from": "2026-01-01", "to": "2026-03-31"},
        "rows": 128,
        "draft": False,
        "note": "",
    }
    missing = size - len(json.dumps(found))
    if missing < 0:
        raise ValueError(f"a payload has at least {size - missing} bytes, not {size}")
    found["note"] = "x" * missing
    return found
