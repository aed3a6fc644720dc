"""Writes the tables of docs/settings.md and docs/metrics.md from the code: `make docs`.

What stands between `<!-- generated -->` and `<!-- end -->` is ours; the rest is written by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from streamer_store import SystemClock
from streamer_worker.monitoring.metric_families import PREFIX
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.settings import Settings, value_text, variable_of

DOCS = Path(__file__).parent
_GENERATED = re.compile(r"(?<=<!-- generated -->\n).*?(?=<!-- end -->)", re.DOTALL)


def settings_tables() -> str:
    """Return a table for the settings without a component, and one for each component."""
    plain = {n: f for n, f in Settings.model_fields.items() if not _is_component(f.annotation)}
    parts = ["\n".join(_table(plain))]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and _is_component(field.annotation):
            model: type[BaseModel] = field.annotation
            about = " ".join((model.__doc__ or "").split())
            rows = "\n".join(_table(model.model_fields, name))
            parts.append(f"### `[{name}]`\n\n{about}\n\n{rows}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def metrics_table() -> str:
    """Return a line for each metric of the worker's own."""
    metrics = Metrics({}, clock=SystemClock())
    rows = ["\n| metric | type | labels | |", "|---|---|---|---|"]
    families = {each.name: each for each in metrics.registry.collect()}
    for name, labels in _labels(metrics).items():
        family = families[name]
        full = f"{name}_total" if family.type == "counter" else name
        listed = ", ".join(f"`{each}`" for each in labels)
        rows.append(f"| `{full}` | {family.type} | {listed} | {family.documentation} |")
    return "\n".join(rows) + "\n\n"


def written(name: str) -> str:
    """Return the page as it should be."""
    table = {"settings.md": settings_tables, "metrics.md": metrics_table}[name]
    text, count = _GENERATED.subn(lambda _: table(), (DOCS / name).read_text())
    assert count == 1, name  # noqa: S101
    return text


def _is_component(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(fields: dict[str, Any], component: str = "") -> Iterator[str]:
    yield "| variable | in the file | default | |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        full = f"{component}.{name}" if component else name
        default = value_text(field.get_default(call_default_factory=True))
        if full == "handler.processes":
            assert default == str(len(os.sched_getaffinity(0)))  # noqa: S101
            default = "CPUs"
        shown = ", ".join(f"`{each}`" for each in default.split(", ")) if default else ""
        yield f"| `{variable_of(full)}` | `{name}` | {shown} | {field.description} |"


def _labels(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """Return the names of the labels of each metric, in the order of their making."""
    found = {}
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001  there is no other way
        name = getattr(collector, "_name", "")
        if name.startswith(PREFIX):
            found[name] = tuple(collector._labelnames)  # type: ignore[attr-defined]  # noqa: SLF001
    return found


if __name__ == "__main__":
    for each in ("settings.md", "metrics.md"):
        (DOCS / each).write_text(written(each))
