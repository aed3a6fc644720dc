"""Writes the figures of a run into docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench import ROOT
from bench.results import RATIO, number_text

PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- generated -->\n"
END: Final = "<!-- end -->\n"
_UNNAMED: Final = ("date", "commit")


def write_page(figures: Path) -> None:
    """Replace the figures on the page by those of the JSON file of a run."""
    found = json.loads(figures.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join(lines(found))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}")


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the figures as Markdown, ratios first."""
    machine = dict(found["machine"])
    kind = "A quick run" if found["quick"] else "A run"
    yield f"{kind} of {machine['date'][:10]}, at commit {machine['commit']}:"
    yield ""
    yield "| machine | |"
    yield "|---|---|"
    for name, value in machine.items():
        if name not in _UNNAMED:
            yield f"| {name} | {value} |"
    parts: dict[str, Any] = found["parts"]
    ratios = [
        (f"{name}: {figure['name']}", figure)
        for name, part in parts.items()
        for figure in part["figures"]
        if figure["unit"] == RATIO
    ]
    yield from _table("ratio", ratios)
    for name, part in parts.items():
        rows = [
            (f"{figure['name']}, {figure['unit']}", figure)
            for figure in part["figures"]
            if figure["unit"] != RATIO
        ]
        yield from _table(name, rows)
        for note in part["notes"]:
            yield ""
            yield f"{note[0].upper()}{note[1:]}."


def _table(title: str, rows: Sequence[tuple[str, Any]]) -> Iterator[str]:
    yield ""
    yield f"| {title} | median | lowest to highest | goal |"
    yield "|---|---|---|---|"
    for name, figure in rows:
        samples = figure["samples"]
        span = (
            f"{number_text(min(samples))} to {number_text(max(samples))}"
            if len(samples) > 1
            else ""
        )
        goal = figure["goal"].replace("<=", "at most").replace(">=", "at least")
        yield f"| {name} | {number_text(figure['value'])} | {span} | {goal} |"
