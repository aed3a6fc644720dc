from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.results import RATIO, Figure, Part, as_json, show

PARTS = [
    Part(
        name="drain",
        figures=[
            Figure(name="ours", unit="requests/s", samples=[100, 300, 200]),
            Figure(name="CPU, ours / batched", unit=RATIO, samples=[2.0], at_most=1.8),
        ],
        notes=["saq is left out"],
    )
]


def test_a_figure_is_the_median_of_its_samples() -> None:
    assert PARTS[0].figures[0].value == 200


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        ({"at_most": 1.8}, "<= 1.8 missed"),
        ({"at_most": 2.0}, "<= 2"),
        ({"at_least": 2.5}, ">= 2.5 missed"),
        ({"at_least": 2.0}, ">= 2"),
        ({}, ""),
    ],
)
def test_a_missed_goal_is_marked(goal: dict[str, float], text: str) -> None:
    assert Figure(name="f", unit=RATIO, samples=[2.0], **goal).goal == text


def test_ratios_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the JSON have the machine, then ratios, then all figures, and the notes."""
    path = tmp_path / "bench.json"
    show(PARTS, quick=True, path=path)
    printed = capsys.readouterr().out
    places = [printed.index(text) for text in ("python:", "ours / batched", "requests/s")]
    assert places == sorted(places)
    assert "drain: saq is left out" in printed
    found = json.loads(path.read_text())
    assert list(found) == ["machine", "quick", "ratios", "parts"]
    assert found == as_json(PARTS, quick=True) | {"machine": found["machine"]}
    assert found["ratios"] == {"drain: CPU, ours / batched": 2.0}
    assert found["parts"]["drain"]["notes"] == ["saq is left out"]
