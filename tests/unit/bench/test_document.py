from __future__ import annotations

from bench.document import BEGIN, END, PAGE, lines
from bench.results import RATIO, Figure, Part, as_json

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


def test_the_figures_are_tables_with_ratios_first() -> None:
    found = as_json(PARTS, quick=False)
    written = list(lines(found))
    assert written[0].startswith(f"A run of {found['machine']['date'][:10]}, at commit ")
    rows = [line for line in written if line.startswith("| ") and "median" not in line]
    assert rows[-2:] == [
        "| drain: CPU, ours / batched | 2.00 |  | at most 1.8 missed |",
        "| ours, requests/s | 200 | 100 to 300 |  |",
    ]
    assert written[-1] == "Saq is left out."


def test_the_page_has_a_place_for_the_figures() -> None:
    text = PAGE.read_text()
    assert text.index(BEGIN) < text.index(END)
