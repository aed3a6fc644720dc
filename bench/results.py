"""Figures, their table in the terminal, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.machine import description

_WIDTH: Final = 130
RATIO: Final = "x"
"""The unit of a ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: the median of its samples.

    at_most, at_least: the goal, where there is one.
    """

    name: str
    unit: str
    samples: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def goal(self) -> str:
        """Return the goal as text, with a mark where it is missed."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}" + (" missed" if self.value > self.at_most else "")
        if self.at_least is not None:
            return f">= {self.at_least:g}" + (" missed" if self.value < self.at_least else "")
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The figures of one benchmark. notes: what is left out, and why. failed: no figures."""

    name: str
    figures: Sequence[Figure]
    notes: Sequence[str] = field(default_factory=tuple)
    failed: bool = False


def as_json(parts: Sequence[Part], *, quick: bool) -> dict[str, Any]:
    """Return all figures with the description of the machine, ratios first."""
    return {
        "machine": description(),
        "quick": quick,
        "ratios": {
            f"{part.name}: {figure.name}": round(figure.value, 3)
            for part in parts
            for figure in part.figures
            if figure.unit == RATIO
        },
        "parts": {
            part.name: {
                "figures": [
                    asdict(figure) | {"value": figure.value, "goal": figure.goal}
                    for figure in part.figures
                ],
                "notes": list(part.notes),
            }
            for part in parts
        },
    }


def show(parts: Sequence[Part], *, quick: bool, path: Path | None) -> None:
    """Print the tables, ratios first, and write the JSON to the path."""
    console = Console(width=max(Console().width, _WIDTH))
    found = as_json(parts, quick=quick)
    console.print(*(f"{name}: {value}" for name, value in found["machine"].items()), sep="\n")
    ratios = [(part, figure) for part in parts for figure in part.figures if figure.unit == RATIO]
    others = [(part, figure) for part in parts for figure in part.figures if figure.unit != RATIO]
    for title, rows in (("ratios", ratios), ("figures", others)):
        if rows:
            console.print(_table(title, rows))
    for part in parts:
        for note in part.notes:
            console.print(f"{part.name}: {note}")
    if path is not None:
        path.write_text(json.dumps(found, indent=2) + "\n")
        console.print(f"written to {path}")


def _table(title: str, rows: Sequence[tuple[Part, Figure]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("part", "figure", "median", "unit", "goal", "lowest", "highest"):
        justify: Any = "right" if column in {"median", "lowest", "highest"} else "left"
        table.add_column(column, justify=justify, no_wrap=True)
    for part, figure in rows:
        table.add_row(
            part.name,
            figure.name,
            number_text(figure.value),
            figure.unit,
            figure.goal,
            number_text(min(figure.samples)),
            number_text(max(figure.samples)),
            style="red" if "missed" in figure.goal else None,
        )
    return table


def number_text(value: float) -> str:
    """Return a number with about three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def say(text: str) -> None:
    """Print what was measured just now. Benches take minutes."""
    Console(stderr=True).print(text, highlight=False, style="dim")
