"""The commands of the benchmarks."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import anyio
import typer

from bench import (
    bulk,
    document,
    drain,
    fleet,
    idle,
    latency,
    memory,
    producer,
    starts,
    transfer,
    units,
    upkeep,
)
from bench.database import database
from bench.results import Part, show

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Measure = Callable[[str, Path], Awaitable[Part]]
Quick = Annotated[bool, typer.Option(help="Fewer requests and rounds.")]
Json = Annotated[Path | None, typer.Option(help="Write the figures to this file.")]
Many = Annotated[int, typer.Option(min=0, help="Requests of the long drain; 0 leaves it out.")]
_MANY: Final = 200_000
_TOGETHER: Final = frozenset({"units", "idle", "memory", "reaper", "recovery"})
"""Parts that mostly wait, or measure no times."""


def _parts(*, quick: bool, many: int) -> dict[str, Measure]:
    """Return the parts in their order."""
    drains = drain.Plan(requests=1_200 if quick else 10_000, rounds=1 if quick else 5)
    arrivals = latency.Plan(rounds=1 if quick else 5, seconds=10 if quick else 60)
    fleets = fleet.Plan(
        sizes=(1, 4) if quick else (1, 2, 4, 16),
        rounds=1 if quick else 3,
        requests=500 if quick else 5_000,
        seconds=5 if quick else 60,
    )
    pushes = drain.Plan(requests=1_000, rounds=1 if quick else 5, only=("ours", drain.CONNECTED))
    idles = idle.Plan(
        waiting=(0, 1_000, 5_000) if quick else (0, 1_000, 20_000), seconds=15 if quick else 120
    )
    return {
        "drain": partial(drain.measure, plan=drains),
        "push": partial(drain.measure, plan=pushes),
        "latency": partial(latency.measure, plan=arrivals),
        "units": units.measure,
        "idle": partial(idle.measure, plan=idles),
        "fleet": partial(fleet.measure, plan=fleets),
        "memory": partial(memory.measure, many=0 if quick else many),
        "reaper": partial(upkeep.sweep, connections=5_000 if quick else 100_000),
        "recovery": partial(upkeep.recovery, rounds=1 if quick else 5),
        "bulk": partial(
            bulk.measure, requests=2_000 if quick else 10_000, rounds=1 if quick else 3
        ),
        "producer": partial(
            producer.measure, requests=200 if quick else 500, rounds=1 if quick else 5
        ),
        "transfer": partial(
            transfer.measure, requests=5_000 if quick else 50_000, rounds=1 if quick else 3
        ),
        "start": partial(starts.measure, rounds=1 if quick else 5),
    }


@app.command("all")
def _all(*, quick: Quick = False, many: Many = _MANY, json: Json = None) -> None:
    """Run all benchmarks."""
    _run(_parts(quick=quick, many=many), quick=quick, json=json)


@app.command("parts")
def _some(
    names: Annotated[list[str], typer.Argument(help="Such as `latency idle`.")],
    *,
    quick: Quick = False,
    many: Many = _MANY,
    json: Json = None,
) -> None:
    """Run some of the benchmarks."""
    parts = _parts(quick=quick, many=many)
    if unknown := set(names) - set(parts):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not in {', '.join(parts)}")
    chosen = {name: part for name, part in parts.items() if name in names}
    _run(chosen, quick=quick, json=json)


@app.command("drain")
def _drain(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Drains of each consumer.")] = 5,
    requests: Annotated[int, typer.Option(min=50, help="Requests of each drain.")] = 10_000,
    only: Annotated[str, typer.Option(help="Consumers, with commas.")] = ",".join(drain.KINDS),
    profile: Annotated[Path | None, typer.Option(help="Write a profile of our worker.")] = None,
    json: Json = None,
) -> None:
    """Drain a full queue of no-op requests: requests per second, CPU per request."""
    kinds = only.split(",")
    known = (*drain.KINDS, drain.CONNECTED)
    if unknown := set(kinds) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not in {', '.join(known)}")
    plan = drain.Plan(requests=requests, rounds=rounds, only=kinds, profile=profile)
    _run({"drain": partial(drain.measure, plan=plan)}, quick=False, json=json)


@app.command("document")
def _document(json: Annotated[Path, typer.Argument(help="The file of a run's `--json`.")]) -> None:
    """Write the figures of a run into docs/performance.md."""
    document.write_page(json)


def _run(measures: Mapping[str, Measure], *, quick: bool, json: Path | None) -> None:
    """Measure the parts one after the other. A quick run measures those of _TOGETHER at once."""
    groups = [{name: measure} for name, measure in measures.items()]
    if quick:
        groups = [{name: measures[name]} for name in measures if name not in _TOGETHER]
        groups.append({name: measures[name] for name in measures if name in _TOGETHER})

    async def measure_all(url: str, folder: Path) -> list[Part]:
        found: dict[str, Part] = {}

        async def add(name: str, measure: Measure) -> None:
            try:
                found[name] = await measure(url, folder)
            except Exception as error:  # noqa: BLE001  the other parts are worth having
                traceback.print_exc()
                found[name] = Part(name=name, figures=(), notes=[f"failed: {error!r}"], failed=True)

        await drain.warm_up(url, folder)
        for group in groups:
            async with anyio.create_task_group() as tasks:
                for name, measure in group.items():
                    tasks.start_soon(add, name, measure)
        return [found[name] for name in measures]

    with database() as url, TemporaryDirectory() as folder:
        parts = anyio.run(measure_all, url, Path(folder))
    show(parts, quick=quick, path=json)
    if any(part.failed for part in parts):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line. SIGTERM ends it as Ctrl-C does, so that no process is left."""
    # A shell starts background jobs with SIGINT ignored, and Python leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app()
