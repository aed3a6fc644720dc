"""A profile of a worker, as text: by py-spy where it is installed, else by cProfile."""

from __future__ import annotations

import pstats
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.children import Child
from bench.layers import layer_of
from bench.workers import WORKER

_SAMPLES_PER_SECOND: Final = "400"
_LINES: Final = 60
_FRAME: Final = re.compile(r"(.*) \((?:.*?/)??([^/:]+(?:/[^/:]+)?)(?::\d+)?\)$")


def worker_command(profile: Path | None) -> Sequence[str]:
    """Return the command of a worker, which runs under cProfile where py-spy is missing."""
    if profile is None or _py_spy() is not None:
        return WORKER
    return (sys.executable, "-m", "bench.profiled_worker", str(_raw(profile)))


@contextmanager
def profiled(worker: Child, profile: Path | None) -> Iterator[None]:
    """Write the profile of the worker to the file, unless it is None."""
    if profile is None:
        yield
    elif (py_spy := _py_spy()) is None:
        yield
        worker.end()  # writes the statistics
        with profile.open("w") as text:
            statistics = pstats.Stats(str(_raw(profile)), stream=text)
            statistics.sort_stats("tottime").print_stats(_LINES)
            statistics.sort_stats("cumulative").print_stats(_LINES)
        _raw(profile).unlink()
    else:
        with _sampled(py_spy, worker, _raw(profile)):
            yield
        profile.write_text("\n".join(summary(_raw(profile).read_text())) + "\n")
        _raw(profile).unlink()


def _py_spy() -> str | None:
    return shutil.which("py-spy")


def _raw(profile: Path) -> Path:
    return profile.with_name(profile.name + ".raw")


@contextmanager
def _sampled(py_spy: str, worker: Child, raw: Path) -> Iterator[None]:
    arguments = (
        *(py_spy, "record", "--pid", str(worker.pid), "--rate", _SAMPLES_PER_SECOND),
        # With the GIL: not while the thread waits for a CPU or in a system call.
        *("--format", "raw", "--output", str(raw), "--gil"),
    )
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
        process.send_signal(signal.SIGINT)  # py-spy writes its file then
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()


def summary(raw: str) -> Iterator[str]:
    """Yield the layers, and then the functions with most samples: their own, and those of what
    they call.
    """
    layers: Counter[str] = Counter()
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        if (layer := layer_of(frames)) is not None:
            layers[layer] += int(samples)
        functions = [_FRAME.sub(r"\2 \1", frame) for frame in frames]
        own[functions[-1]] += int(samples)
        for function in dict.fromkeys(functions):
            cumulative[function] += int(samples)
    for title, counts, total in (
        ("layers", layers, layers.total()),
        ("own time", own, own.total()),
        ("time with callees", cumulative, own.total()),
    ):
        yield f"{title}, percent of {total} samples"
        for function, number in counts.most_common(_LINES):
            yield f"{100 * number / total:6.2f}  {function}"
        yield ""
