from __future__ import annotations

from bench.profiling import summary

RAW = """\
run (asyncio/runners.py:118);work (/x/site-packages/bench/a.py:3);send (/y/b.py:1) 3
run (asyncio/runners.py:118);work (/x/site-packages/bench/a.py:9) 1
"""


def test_samples_are_summed_by_function() -> None:
    """A function has its own time, and the time of its callees. Lines are left out."""
    own, _, rest = "\n".join(summary(RAW)).partition("\n\n")
    assert own.splitlines() == [
        "own time, percent of 4 samples",
        " 75.00  y/b.py send",
        " 25.00  bench/a.py work",
    ]
    assert rest.splitlines() == [
        "time with callees, percent of 4 samples",
        "100.00  asyncio/runners.py run",
        "100.00  bench/a.py work",
        " 75.00  y/b.py send",
    ]
