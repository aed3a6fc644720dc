from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    Priority,
    StoreError,
    Stores,
    memory_stores,
)
from streamer_store.models import DEFAULT_MAX_RETRIES
from streamer_worker.cli.bulk import MaxWriteUnitsOption, Refused, exit_if_refused, explained
from streamer_worker.cli.enqueue_one import enqueue_one, read_payload
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.line_source import LineSource
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    TimeoutOption,
    YesOption,
    with_stores,
)
from streamer_worker.cli.output import (
    confirm_many,
    print_json,
    print_line,
    progress_bar,
)
from streamer_worker.cli.request_lines import Line, differing_fields

_WITHOUT_TERMINAL: Final = "give --yes to enqueue them, or --dry-run to check them"


def enqueue(
    action: Annotated[
        str | None, typer.Argument(help="Action to run; `streamer-worker handlers` lists them.")
    ] = None,
    *,
    payload: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="Payload, a JSON object. `-` reads it from standard input, as without this"
            " option if something is piped in.",
        ),
    ] = None,
    connection: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the connection to notify.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the user who sends it.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Id of the tenant.")] = None,
    request_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Id of the request. Default: a new UUID."),
    ] = None,
    max_retries: Annotated[
        int | None,
        typer.Option(
            "--max-retries",
            min=0,
            metavar="N",
            help=f"How many attempts may follow the first. Default: {DEFAULT_MAX_RETRIES}.",
        ),
    ] = None,
    priority: Annotated[
        Priority | None,
        typer.Option(
            "--priority",
            metavar="PRIORITY",
            case_sensitive=False,
            help="`high` runs before others, `low` when no other request waits.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end. Exit with 1 unless COMPLETED.")
    ] = False,
    timeout: TimeoutOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            allow_dash=True,
            help="Add the requests of a file of JSON Lines. `-` reads standard input, and needs"
            " --yes.",
        ),
    ] = None,
    id_prefix: Annotated[
        str | None,
        typer.Option(
            "--id-prefix",
            metavar="PREFIX",
            help="With --file: the ids of requests without `request_id` are this prefix and"
            " the number of the line.",
        ),
    ] = None,
    max_write_units: MaxWriteUnitsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --file: check the lines, and add nothing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a request to the queue, or the requests of a file.

    Prints the id of the request, and a warning if no live worker handles the action. Without
    --payload, the payload is what is piped in. An empty or closed standard input and /dev/null
    mean an empty payload, and a pipe that stays open without data for 2 s is refused. --wait exits
    with 1 unless the request is COMPLETED, and with 124 if it has not ended within --timeout.

    Each line of the file is a JSON object with `action` and, if you want, `request_id`,
    `payload`, `connection_id`, `user_id`, `tenant_id`, `max_retries`, `priority`, `created_at` and
    `ttl`. A request that is in the table already, with the same fields, is left alone. So a file
    whose requests have ids, or --id-prefix, can be added again after an interruption. Exits with
    1 if a line is refused.

    Examples: `streamer-worker enqueue echo --payload '{"n": 1}' --wait`,
    `streamer-worker enqueue --file requests.jsonl --id-prefix import-7-`
    """
    if file is None:
        if action is None:
            raise typer.BadParameter("give an action, or --file")
        if id_prefix is not None or dry_run or max_write_units is not None:
            raise typer.BadParameter("--id-prefix, --dry-run and --max-write-units need --file")
        if timeout is not None and not wait:
            raise typer.BadParameter("--timeout needs --wait")
        request = AsyncRequest(
            request_id=_required_id(request_id),
            action=action,
            payload=read_payload(payload),
            connection_id=connection,
            user_id=user,
            tenant_id=tenant,
            max_retries=DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
            priority=priority,
        )
        enqueue_one(request, config, wait=wait, timeout=timeout, as_json=as_json)
        return
    of_one = (action, payload, connection, user, tenant, request_id, max_retries, priority, timeout)
    if wait or any(value is not None for value in of_one):
        raise typer.BadParameter(
            "--file cannot be combined with an action, --payload, --connection, --user, --tenant,"
            " --id, --max-retries, --priority, --wait or --timeout: each line has its own fields"
        )
    with ExitStack() as closing:
        source = LineSource(closing, file, id_prefix)
        if dry_run:
            enqueued = _check(source)
        else:
            _ask(source, yes=yes)
            enqueued = _enqueue_lines(source, config, max_write_units)
    _report(enqueued, dry_run=dry_run, as_json=as_json)


@dataclass(slots=True)
class _Enqueued:
    """What became of the lines."""

    done: int = 0
    """Requests that were added. In a dry run, those that would be, or are there already."""
    present: int = 0
    """Requests that were in the table already."""
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


def _check(source: LineSource) -> _Enqueued:
    """Enqueue the lines into stores in memory, and return what became of them."""
    enqueued = _Enqueued()

    async def main() -> None:
        async with aclosing(source.slices()) as slices:
            async for lines in slices:
                await _enqueue_slice(memory_stores(), lines, enqueued, None)

    anyio.run(main)
    return enqueued


def _enqueue_lines(
    source: LineSource, config: ConfigOption, max_write_units: float | None
) -> _Enqueued:
    enqueued = _Enqueued()

    async def work(stores: Stores) -> None:
        total = sum(1 for _ in source.lines()) if source.can_repeat else None
        source.rewind()
        with progress_bar(err=True, transient=True) as bar:
            task = bar.add_task("enqueue", total=total)
            async with aclosing(source.slices()) as slices:
                async for lines in slices:
                    await _enqueue_slice(stores, lines, enqueued, max_write_units)
                    bar.advance(task, len(lines))

    with explained(lambda: f"{counted(enqueued.done, 'request')} enqueued"):
        with_stores(config, work)
    return enqueued


async def _enqueue_slice(
    stores: Stores, lines: list[Line], enqueued: _Enqueued, max_write_units: float | None
) -> None:
    valid = [line for line in lines if line.request is not None]
    refused = [
        (line.number, Refused.of("", line.error)) for line in lines if line.error is not None
    ]
    taken: list[tuple[Line, StoreError]] = []

    def note(result: BulkResult[AsyncRequest]) -> None:
        line = valid[result.position]
        if result.error is None:
            enqueued.done += 1
        elif isinstance(result.error, AlreadyExists):
            taken.append((line, result.error))
        else:
            refused.append((line.number, Refused.of(result.key, result.error)))

    requests = [line.request for line in valid if line.request is not None]
    await stores.requests.enqueue_many(requests, on_result=note, max_write_units=max_write_units)
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
        if enqueued.refused:
            text += f", {len(enqueued.refused)} refused"
        print_line(text)
        for place, refused in enqueued.refused:
            of = f" ({refused.request_id})" if refused.request_id else ""
            print_line(f"refused line {place}{of}: {refused.message}", err=True)
    exit_if_refused(enqueued.refused)


def _required_id(request_id: str | None) -> str:
    """Return the id, or an empty text for a new one. An empty id is a script's mistake."""
    if request_id == "":
        raise typer.BadParameter("is empty", param_hint="--id")
    return request_id or ""
