"""The queries in deploy/: those of the dashboard, and the rules of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from processes import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "streamer-worker.json").read_text()
)
_NAME = re.compile(r"\b(?:\w+:)?streamer_worker_\w+(?::\w+)?")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def variables() -> dict[str, str]:
    entries = DASHBOARD["templating"]["list"]
    return {entry["name"]: entry.get("definition", "") for entry in entries}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_in(query: str) -> set[str]:
    """Return the names of metrics and of recorded queries in a query."""
    return set(_NAME.findall(query))
