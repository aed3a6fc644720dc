from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from streamer_store import (
    Existing,
    Exported,
    Imported,
    ImportPlan,
    Stores,
    TransferProgress,
    export_tables,
    import_tables,
)
from streamer_worker.cli.bulk import explained
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.options import ConfigOption, JsonOption, YesOption, with_stores
from streamer_worker.cli.output import (
    confirm_many,
    print_error,
    print_json,
    print_line,
    progress_bar,
)

_STEPS: Final = {
    "export": "exporting",
    "verify": "verifying",
    "compare": "comparing",
    "write": "importing",
}
_WITHOUT_TERMINAL: Final = "give --yes to import"
TargetArgument = Annotated[str, typer.Argument(help="A directory, or s3://bucket/prefix.")]


def export(
    target: TargetArgument,
    *,
    segments: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, metavar="N", help="Segments of a table to scan at a time. Default: 4."
        ),
    ] = None,
    max_read_units: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="N", help="Maximum read units a second. Default: no limit."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write all items of the four tables to compressed files, and a manifest.

    The target must be empty, or have an unfinished export of the same tables: run the command
    again after an interruption, and it continues. Every item that exists from the beginning to the
    end is exported, but the files are not a snapshot of one moment. They contain payloads, and
    only their owner can read them.

    Examples: `streamer-worker export /backup/2026-01-31 --max-read-units 200`,
    `streamer-worker export s3://bucket/2026-01-31`
    """
    region = _region(config)

    async def work(stores: Stores) -> Exported:
        with _progress() as show:
            return await export_tables(
                stores,
                target,
                segments=segments,
                max_read_units=max_read_units,
                region=region,
                on_progress=show,
            )

    with explained(lambda: f"the export to {target} is not whole"):
        exported = with_stores(config, work)
    if as_json:
        print_json(asdict(exported))
        return
    verb = "continued and finished the export of" if exported.resumed else "exported"
    items = ", ".join(f"{count} {table}" for table, count in exported.items.items())
    size = f"{counted(exported.parts, 'file')}, {exported.bytes:,} bytes"
    print_line(f"{verb} {items} to {exported.target} ({size})")


def import_(
    target: TargetArgument,
    *,
    existing: Annotated[
        Existing,
        typer.Option(
            metavar="refuse|skip|replace",
            help="What to do with items that exist and differ: refuse the import before anything"
            " is written, skip them, or replace them.",
        ),
    ] = Existing.REFUSE,
    release_running: Annotated[
        bool,
        typer.Option(
            "--release-running",
            help="Import PROCESSING requests as PENDING, so that any worker claims them.",
        ),
    ] = False,
    with_workers: Annotated[
        bool, typer.Option("--with-workers", help="Import although workers run on the tables.")
    ] = False,
    max_write_units: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="N", help="Maximum write units a second. Default: no limit."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write the items of an export to the four tables, which must exist.

    The tables are those of the settings, whatever their names were at the export.
    The whole export is verified before anything is written. Items that exist and are equal count
    as done: run the command again after an interruption, and it finishes the import. It asks for
    confirmation if a table has items. Exits with 1 if items were refused or the answer is no, and
    with 2 if there is no terminal to ask on.

    Example: `streamer-worker import /backup/2026-01-31 --release-running`
    """
    region = _region(config)

    async def work(stores: Stores) -> Imported:
        with _progress() as show:

            def confirm(plan: ImportPlan) -> None:
                show(None)
                _confirm(plan, existing, yes=yes)

            return await import_tables(
                stores,
                target,
                existing=existing,
                release_running=release_running,
                with_workers=with_workers,
                max_write_units=max_write_units,
                region=region,
                before_write=confirm,
                on_progress=show,
            )

    with explained(lambda: f"the import of {target} is not whole"):
        imported = with_stores(config, work)
    if as_json:
        print_json(asdict(imported))
    else:
        print_line(_import_text(imported))
    if imported.refused:
        more = imported.refused - len(imported.refused_keys)
        print_error(
            f"{counted(imported.refused, 'item')} refused, because others wrote them meanwhile",
            [*imported.refused_keys, *([f"and {more} more"] if more else [])],
        )
        raise typer.Exit(1)


def _confirm(plan: ImportPlan, existing: Existing, *, yes: bool) -> None:
    if plan.expired:
        print_line(
            f"warning: DynamoDB will delete {counted(plan.expired, 'item')} within a few days,"
            " because their TTL is in the past",
            err=True,
        )
    if plan.not_empty:
        items = counted(sum(plan.items.values()), "item")
        replaces = " and replace those that differ" if existing is Existing.REPLACE else ""
        question = f"Import {items} into {', '.join(plan.not_empty)}, which have items{replaces}?"
        confirm_many(question, yes=yes, without_terminal=_WITHOUT_TERMINAL)


def _import_text(imported: Imported) -> str:
    parts = [f"imported {counted(imported.written, 'item')} from {imported.target}"]
    for count, what in (
        (imported.replaced, "replaced"),
        (imported.unchanged, "unchanged"),
        (imported.skipped, "skipped because they differ"),
        (imported.released, "of them released"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


@contextmanager
def _progress() -> Iterator[Callable[[TransferProgress | None], None]]:
    """Give a function that shows progress on stderr, if that is a terminal. None hides it."""
    bar = progress_bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        err=True,
        transient=True,
    )
    task = bar.add_task("", start=False)
    shown = ("", "")

    def show(progress: TransferProgress | None) -> None:
        nonlocal shown
        if progress is None:
            bar.stop()
            return
        bar.start()
        if shown != (progress.step, progress.table):
            shown = progress.step, progress.table
            description = f"{_STEPS[progress.step]} {progress.table}"
            bar.reset(task, total=progress.total, description=description)
        bar.update(task, completed=progress.items)

    with bar:
        yield show


def _region(config: Path | None) -> str | None:
    from streamer_worker.settings import load_settings

    return load_settings(config).region
