"""Generates parts of docs/settings.md, docs/metrics.md and docs/api.md from the code: `make docs`.

Only the text between `<!-- generated -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from streamer_store import SystemClock
from streamer_worker.monitoring.metric_families import PREFIX
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.settings import Settings, value_text, variable_of

DOCS = Path(__file__).parent
PAGES: Final = ("settings.md", "metrics.md", "api.md")
_GENERATED = re.compile(r"(?<=<!-- generated -->\n).*?(?=<!-- end -->)", re.DOTALL)


def generate_page(name: str) -> str:
    """Return the text of a page, with its generated part up to date."""
    reference = runpy.run_path(str(DOCS / "api_reference.py"))["reference"]
    generators = {"settings.md": settings_tables, "metrics.md": metrics_table, "api.md": reference}
    text, count = _GENERATED.subn(lambda _: generators[name](), (DOCS / name).read_text())
    assert count == 1, name  # noqa: S101
    return text


def settings_tables() -> str:
    """Return a table of the settings without a component, and one for each component."""
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
    """Return a table with a row for each metric that the worker defines."""
    metrics = Metrics({}, clock=SystemClock())
    rows = ["\n| metric | type | labels | |", "|---|---|---|---|"]
    families = {family.name: family for family in metrics.registry.collect()}
    for name, labels in _labels(metrics).items():
        family = families[name]
        full = f"{name}_total" if family.type == "counter" else name
        listed = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{full}` | {family.type} | {listed} | {family.documentation} |")
    return "\n".join(rows) + "\n\n"


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
        shown = ", ".join(f"`{value}`" for value in default.split(", ")) if default else ""
        yield f"| `{variable_of(full)}` | `{name}` | {shown} | {field.description} |"


def _labels(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """Return the names of the labels of each metric, in the order of their definition."""
    labels = {}
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001  there is no other way
        name = getattr(collector, "_name", "")
        if name.startswith(PREFIX):
            labels[name] = tuple(collector._labelnames)  # type: ignore[attr-defined]  # noqa: SLF001
    return labels


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(generate_page(page))
