from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench import ROOT
from bench.counter import VARIABLE, Counter
from processes import environment

CODE = """
from bench.counter import Counter
counter = Counter.of_this_process()
counter.add()
counter.stamp(7)
"""


def test_another_process_is_read(tmp_path: Path) -> None:
    """A counter starts at 0. What a child counts and stamps is seen at once, with its clock."""
    path = tmp_path / "counter"
    counter = Counter(path)
    assert (counter.value, counter.stamped(7)) == (0, None)
    began = time.monotonic()
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", CODE],
        env=environment(**{VARIABLE: str(path), "PYTHONPATH": str(ROOT)}),
        check=True,
        timeout=60,
    )
    assert counter.value == 2
    stamped = counter.stamped(7)
    assert stamped is not None
    assert began < stamped < time.monotonic()
