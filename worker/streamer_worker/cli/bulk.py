"""Commands that change many requests: select, ask, change with a progress bar, report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import typer

from streamer_store import BulkResult, RequestStatus, StoreError, Stores, StoreUnavailable
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.options import ConfigOption, with_stores
from streamer_worker.cli.output import (
    confirm_many,
    print_json,
    print_line,
    progress_bar,
    spinner,
)
from streamer_worker.cli.selecting import RequestFilter

_SLICE: Final = 500
_MAX_LIMIT: Final = 1_000_000

OnResult = Callable[[BulkResult[Any]], object]
Change = Callable[[list[str], OnResult], Awaitable[object]]
"""Changes the requests with these ids, and calls back with the result of each."""

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="List the selected requests, and change nothing.")
]
LimitOption = Annotated[
    int,
    typer.Option(
        "--limit",
        min=1,
        max=_MAX_LIMIT,
        metavar="N",
        help="Maximum number of requests: of each status the newest, or the oldest to delete.",
    ),
]
MaxWriteUnitsOption = Annotated[
    float | None,
    typer.Option(
        "--max-write-units",
        min=1,
        metavar="N",
        help="Maximum of write units to consume per second, beside live traffic.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What a command does, in words."""

    infinitive: str
    """As in "would cancel 3 requests"."""
    past: str
    """As in "3 requests cancelled"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The requests that a command changes, and what it may do without asking."""

    matching: RequestFilter
    statuses: Collection[RequestStatus]
    limit: int
    dry_run: bool
    yes: bool
    newest_first: bool = True
    """Which requests of each status the limit leaves."""


class Refused(NamedTuple):
    """An item that was refused. Errors are not kept: their tracebacks are large."""

    request_id: str
    error: str
    message: str

    @classmethod
    def of(cls, request_id: str, error: StoreError) -> Refused:
        return cls(request_id, type(error).__name__, error.message)


@dataclass(slots=True)
class Changed:
    """What became of the selected requests."""

    ids: list[str] = field(default_factory=list)
    """Those that were changed. In a dry run, those that would be."""
    refused: list[Refused] = field(default_factory=list)
    more: bool = False
    """Whether more match than the limit allows."""

    def add(self, result: BulkResult[Any]) -> None:
        if result.error is None:
            self.ids.append(result.key)
        else:
            self.refused.append(Refused.of(result.key, result.error))


def change_many(
    config: ConfigOption,
    selection: Selection,
    verb: Verb,
    opened: Callable[[Stores], AbstractAsyncContextManager[Change]],
) -> Changed:
    """Select requests, ask if there are several, and change them.

    `opened`: called with the stores. Its context is the change. Exits with 1 if the answer is
    no, and with 2 if there is no terminal to ask on.
    """
    changed = Changed()

    async def work(stores: Stores) -> Changed:
        with spinner("Reading the requests"):
            ids, more = await selection.matching.ids(
                stores.requests,
                selection.statuses,
                selection.limit,
                newest_first=selection.newest_first,
            )
        if selection.dry_run:
            return Changed(ids, more=more)
        if len(ids) > 1:
            confirm_many(
                f"{verb.infinitive.capitalize()} {len(ids)} requests?",
                yes=selection.yes,
                without_terminal=f"give --yes to {verb.infinitive} them, or --dry-run to list them",
            )
        changed.more = more
        with progress_bar(err=True, transient=True) as bar:
            task = bar.add_task(verb.infinitive, total=len(ids))

            def note(result: BulkResult[Any]) -> None:
                changed.add(result)
                bar.advance(task)

            async with opened(stores) as change:
                for start in range(0, len(ids), _SLICE):
                    await change(ids[start : start + _SLICE], note)
        return changed

    with explained(lambda: f"{counted(len(changed.ids), 'request')} {verb.past}"):
        return with_stores(config, work)


@contextmanager
def explained(text: Callable[[], str]) -> Iterator[None]:
    """Say on stderr what was done when the block ends by Ctrl-C, or because DynamoDB is away."""
    try:
        yield
    except (KeyboardInterrupt, StoreUnavailable) as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        print_line(f"{how}: {text()}. Run the same command again to go on", err=True)
        raise


def report_changed(
    changed: Changed, verb: Verb, selection: Selection, *, as_json: bool, **more: Any
) -> None:
    """Print what was changed, and what was refused. Exits with 1 if something was refused.

    `more`: further fields of the JSON.
    """
    if as_json:
        print_json(
            {
                "dry_run": selection.dry_run,
                verb.past: changed.ids,
                **more,
                "refused": [refused._asdict() for refused in changed.refused],
                "more": changed.more,
            }
        )
    elif selection.dry_run:
        for request_id in changed.ids:
            print_line(request_id)
        number = counted(len(changed.ids), "request")
        print_line(f"would {verb.infinitive} {number}", err=True)
    else:
        text = f"{counted(len(changed.ids), 'request')} {verb.past}"
        print_line(text + (f", {len(changed.refused)} refused" if changed.refused else ""))
    if not as_json:
        for refused in changed.refused:
            print_line(f"refused {refused.request_id}: {refused.message}", err=True)
        if changed.more:
            print_line(f"reached --limit {selection.limit}: there are more requests", err=True)
    exit_if_refused(changed.refused)


def exit_if_refused(refused: list[Any]) -> None:
    if refused:
        raise typer.Exit(1)


def refuse_options(*, used: bool, names: str) -> None:
    """Refuse options that select several requests beside the id of one."""
    if used:
        raise typer.BadParameter(
            f"a request id cannot be combined with --dry-run, nor with {names}, which select"
            " several requests"
        )


def require_selection(names: str) -> NoReturn:
    raise typer.BadParameter(f"give a request id, or {names}")
