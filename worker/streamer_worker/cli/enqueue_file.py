"""`enqueue` of the requests of a file."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    Enqueued,
    OnConflict,
    StoreError,
    Stores,
    memory_stores,
)
from streamer_worker.cli.bulk import Refused, exit_if_refused, explained
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.line_source import LineSource
from streamer_worker.cli.options import ConfigOption, with_stores
from streamer_worker.cli.output import confirm_many, print_json, print_line, progress_bar
from streamer_worker.cli.request_lines import Line, differing_fields

_WITHOUT_TERMINAL: Final = "give --yes to enqueue them, or --dry-run to check them"


def enqueue_file(
    file: Path,
    config: ConfigOption,
    *,
    id_prefix: str | None,
    max_write_units: float | None,
    beyond_a_year: bool,
    on_conflict: OnConflict,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Enqueue the requests of a file of JSON Lines, and print how many. Exits with 1 if a line is
    refused. The parameters are the options of `enqueue`.
    """
    how = _How(beyond_a_year, on_conflict)
    with ExitStack() as closing:
        source = LineSource(closing, file, id_prefix)
        if dry_run:
            enqueued = _check(source, how)
        else:
            _ask(source, yes=yes)
            enqueued = _enqueue_lines(source, config, max_write_units, how)
    _report(enqueued, dry_run=dry_run, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _How:
    """The arguments of `enqueue_many`."""

    beyond_a_year: bool
    on_conflict: OnConflict


@dataclass(slots=True)
class _Enqueued:
    """What became of the lines."""

    done: int = 0
    """Requests that were added. In a dry run, those that would be, or are there already."""
    present: int = 0
    """Requests that were in the table already, or whose unique keys had a request."""
    replaced: int = 0
    """Of `done`, those that took the place of a request that waited."""
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    """Each with the number of its line."""


def _ask(source: LineSource, *, yes: bool) -> None:
    """Ask before more than one request is added."""
    if yes:
        return
    if not source.can_repeat:
        question = "Enqueue the requests of standard input?"
        confirm_many(question, yes=False, without_terminal=_WITHOUT_TERMINAL)
        return
    counts: Counter[str] = Counter()
    for line in source.lines():
        counts["requests" if line.request is not None else "wrong"] += 1
        counts["without id"] += line.request is not None and not line.request.request_id
    source.rewind()
    if counts["requests"] > 1:
        notes = []
        if counts["wrong"]:
            notes.append(f"{counted(counts['wrong'], 'line')} will be refused")
        if counts["without id"]:
            notes.append(f"{counts['without id']} have no id, and would be added again if repeated")
        also = f" ({'; '.join(notes)})" if notes else ""
        question = f"Enqueue {counts['requests']} requests{also}?"
        confirm_many(question, yes=False, without_terminal=_WITHOUT_TERMINAL)


def _check(source: LineSource, how: _How) -> _Enqueued:
    """Enqueue the lines into stores in memory, and return what became of them."""
    enqueued = _Enqueued()

    async def main() -> None:
        async with aclosing(source.slices()) as slices:
            async for lines in slices:
                await _enqueue_slice(memory_stores(), lines, enqueued, None, how)

    anyio.run(main)
    return enqueued


def _enqueue_lines(
    source: LineSource,
    config: ConfigOption,
    max_write_units: float | None,
    how: _How,
) -> _Enqueued:
    enqueued = _Enqueued()

    async def work(stores: Stores) -> None:
        total = sum(1 for _ in source.lines()) if source.can_repeat else None
        source.rewind()
        with progress_bar(err=True, transient=True) as bar:
            task = bar.add_task("enqueue", total=total)
            async with aclosing(source.slices()) as slices:
                async for lines in slices:
                    await _enqueue_slice(stores, lines, enqueued, max_write_units, how)
                    bar.advance(task, len(lines))

    with explained(lambda: f"{counted(enqueued.done, 'request')} enqueued"):
        with_stores(config, work)
    return enqueued


async def _enqueue_slice(
    stores: Stores,
    lines: list[Line],
    enqueued: _Enqueued,
    max_write_units: float | None,
    how: _How,
) -> None:
    valid = [line for line in lines if line.request is not None]
    refused = [
        (line.number, Refused.of("", line.error)) for line in lines if line.error is not None
    ]
    taken: list[tuple[Line, StoreError]] = []

    def note(result: BulkResult[AsyncRequest]) -> None:
        line = valid[result.position]
        kind = None if result.record is None else result.record.enqueued
        if kind is Enqueued.EXISTS:
            enqueued.present += 1
        elif result.error is None:
            enqueued.done += 1
            enqueued.replaced += kind is Enqueued.REPLACED
        elif isinstance(result.error, AlreadyExists):
            taken.append((line, result.error))
        else:
            refused.append((line.number, Refused.of(result.key, result.error)))

    requests = [line.request for line in valid if line.request is not None]
    await stores.requests.enqueue_many(
        requests,
        on_result=note,
        max_write_units=max_write_units,
        beyond_a_year=how.beyond_a_year,
        on_conflict=how.on_conflict,
    )
    stored = await stores.requests.get_many(error.key for _, error in taken)
    for line, error in taken:
        found = stored.get(error.key)
        if found is not None and line.request is not None:
            differing = differing_fields(line.request, found)
            if not differing:
                enqueued.present += 1
                continue
            error.message = f"a request with this id exists, with another {', '.join(differing)}"
        refused.append((line.number, Refused.of(error.key, error)))
    enqueued.refused += sorted(refused)


def _report(enqueued: _Enqueued, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "enqueued": enqueued.done,
                "present": enqueued.present,
                "replaced": enqueued.replaced,
                "refused": [
                    {"line": number, **refused._asdict()} for number, refused in enqueued.refused
                ],
            }
        )
    else:
        number = counted(enqueued.done, "request")
        text = f"would enqueue {number}" if dry_run else f"{number} enqueued"
        if enqueued.present:
            text += f", {enqueued.present} there already"
        if enqueued.replaced:
            text += f", {enqueued.replaced} of them replaced one that waited"
        if enqueued.refused:
            text += f", {len(enqueued.refused)} refused"
        print_line(text)
        for place, refused in enqueued.refused:
            of = f" ({refused.request_id})" if refused.request_id else ""
            print_line(f"refused line {place}{of}: {refused.message}", err=True)
    exit_if_refused(enqueued.refused)
