"""Starts: CPU seconds of short commands, with all that they import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.results import RATIO, Figure, Part, say
from bench.workers import WORKER

_IMPORTS: Final = ("streamer_store", "botocore.session", "aiobotocore.session")


async def measure(_url: str, _folder: Path, rounds: int) -> Part:
    """Run each command `rounds` times, after a first time that may compile modules."""
    commands: Mapping[str, Sequence[str]] = {
        "streamer-worker --help": (WORKER[0], "--help"),
        "python, no import": (sys.executable, "-c", ""),
    } | {f"import {name}": (sys.executable, "-c", f"import {name}") for name in _IMPORTS}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = _cpu(command)
            if number:
                found[name].append(seconds)
    figures = [
        Figure(
            name=name,
            unit="CPU s",
            samples=samples,
            at_most=0.25 if name == "streamer-worker --help" else None,
        )
        for name, samples in found.items()
    ]
    for figure in figures:
        say(f"start, {figure.name}: {figure.value:.2f} s of CPU")
    pairs = zip(found["import streamer_store"], found["import botocore.session"], strict=True)
    ratio = Figure(
        name="CPU, import streamer_store / botocore.session",
        unit=RATIO,
        samples=[ours / theirs for ours, theirs in pairs],
    )
    return Part(name="start", figures=[ratio, *figures])


def _cpu(command: Sequence[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime
