"""The commands of the benchmarks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import anyio
import typer

from bench import drain
from bench.database import database
from bench.results import Part, show

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Measure = Callable[[str, Path], Awaitable[Part]]
Quick = Annotated[bool, typer.Option(help="Fewer requests and rounds.")]
Json = Annotated[Path | None, typer.Option(help="Write the figures to this file.")]


@app.command("drain")
def _drain(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Drains of each consumer.")] = 5,
    requests: Annotated[int, typer.Option(min=100, help="Requests of each drain.")] = 10_000,
    only: Annotated[str, typer.Option(help="Consumers, with commas.")] = ",".join(drain.KINDS),
    profile: Annotated[Path | None, typer.Option(help="Write a profile of our worker.")] = None,
    json: Json = None,
) -> None:
    """Drain a full queue of no-op requests: requests per second, CPU per request."""
    kinds = only.split(",")
    if unknown := set(kinds) - set(drain.KINDS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not in {', '.join(drain.KINDS)}")
    plan = drain.Plan(requests=requests, rounds=rounds, only=kinds, profile=profile)
    _run([partial(drain.measure, plan=plan)], quick=False, json=json)


@app.command("all")
def _all(*, quick: Quick = False, json: Json = None) -> None:
    """Run all benchmarks."""
    plan = drain.Plan(requests=1_500 if quick else 10_000, rounds=1 if quick else 5)
    _run([partial(drain.measure, plan=plan)], quick=quick, json=json)


def _run(measures: Sequence[Measure], *, quick: bool, json: Path | None) -> None:
    async def measure_all(url: str, folder: Path) -> list[Part]:
        return [await measure(url, folder) for measure in measures]

    with database() as url, TemporaryDirectory() as folder:
        parts = anyio.run(measure_all, url, Path(folder))
    show(parts, quick=quick, path=json)


def main() -> None:
    """Run the command line."""
    app()
