from __future__ import annotations

import pytest

from bench import ROOT
from bench.layers import LAYERS, layer_of
from bench.profiling import summary

RAW = """\
_run_once (asyncio/runners.py:118);work (/x/site-packages/bench/a.py:3);send (dynamo/answers.py:1) 3
_run_once (asyncio/runners.py:118);work (/x/site-packages/bench/a.py:9) 1
work (/x/site-packages/bench/a.py:1) 1
"""


def test_samples_are_summed_by_layer_and_by_function() -> None:
    """A function has its own time, and the time of its callees. Lines are left out."""
    layers, own, with_callees = "\n".join(summary(RAW)).split("\n\n")
    assert layers.splitlines() == [
        "layers, percent of 4 samples",
        " 75.00  client: checks of answers",
        " 25.00  event loop, tasks, the rest",
    ]
    assert own.splitlines() == [
        "own time, percent of 5 samples",
        " 60.00  dynamo/answers.py send",
        " 40.00  bench/a.py work",
    ]
    assert with_callees.splitlines() == [
        "time with callees, percent of 5 samples",
        "100.00  bench/a.py work",
        " 80.00  asyncio/runners.py _run_once",
        " 60.00  dynamo/answers.py send",
    ]


def test_entries_of_an_index_are_a_layer() -> None:
    """The same module decodes requests, which are another one."""
    loop = "_run_once (asyncio/base_events.py:1)"
    entry = [
        loop,
        "candidate (streamer_store/codec.py:1)",
        "_decode_known (streamer_store/codec.py:9)",
    ]
    assert layer_of(entry) == "index pages: decode and choose"
    assert layer_of([loop, "request (streamer_store/codec.py:1)"]) == "store: item to request"


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_of_ours_names_files_that_exist(layer: str) -> None:
    """A file that is moved or renamed keeps its layer."""
    files = [
        str(path) for package in ("store", "worker") for path in (ROOT / package).rglob("*.py")
    ]
    if not layer.startswith("client"):
        for fragment in LAYERS[layer]:
            assert fragment.startswith(("structlog", "prometheus")) or any(
                fragment in file for file in files
            ), fragment
