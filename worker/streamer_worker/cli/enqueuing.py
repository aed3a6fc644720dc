from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import typer

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    RequestStatus,
    StoreError,
    Stores,
    ValidationError,
    memory_stores,
)
from streamer_worker.cli.bulk import MaxWriteUnitsOption, Refused, exit_if_refused, explained
from streamer_worker.cli.formatting import counted, json_fields
from streamer_worker.cli.line_source import LineSource, standard_input
from streamer_worker.cli.options import ConfigOption, JsonOption, YesOption, with_stores
from streamer_worker.cli.output import (
    confirm_many,
    print_json,
    print_line,
    progress_bar,
)
from streamer_worker.cli.request_lines import Line, differing_fields, parse_object
from streamer_worker.cli.showing import print_request
from streamer_worker.cli.watching import follow

_WITHOUT_TERMINAL: Final = "give --yes to enqueue them, or --dry-run to check them"


def enqueue(
    action: Annotated[
        str | None, typer.Argument(help="Action to run; `streamer-worker handlers` lists them.")
    ] = None,
    *,
    payload: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Payload, a JSON object. `-` reads it from standard input."
        ),
    ] = None,
    connection: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the connection to notify.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the user who sends it.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Id of the tenant.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end. Exit with 1 unless COMPLETED.")
    ] = False,
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

    Prints the id of the request.

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
        request = AsyncRequest(
            action=action,
            payload=_payload(payload),
            connection_id=connection,
            user_id=user,
            tenant_id=tenant,
        )
        _enqueue_one(request, config, wait=wait, as_json=as_json)
        return
    if wait or any(value is not None for value in (action, payload, connection, user, tenant)):
        raise typer.BadParameter(
            "--file cannot be combined with an action, --payload, --connection, --user, --tenant"
            " or --wait: each line has its own fields"
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


def _enqueue_one(request: AsyncRequest, config: ConfigOption, *, wait: bool, as_json: bool) -> None:
    async def work(stores: Stores) -> AsyncRequest:
        stored = await stores.requests.enqueue(request)
        if not as_json:
            print_line(stored.request_id)
        return await follow(stores, stored.request_id, _show_nothing) if wait else stored

    latest = with_stores(config, work)
    if as_json:
        print_json(json_fields(latest))
    elif wait:
        print_request(latest)
    if wait and latest.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


def _payload(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    return parse_object("payload", _stdin_text() if text == "-" else text)


def _stdin_text() -> str:
    try:
        return standard_input().read().decode()
    except ValueError as error:  # it is closed, or not UTF-8
        raise ValidationError("payload", f"cannot be read from standard input: {error}") from error


def _show_nothing(request: AsyncRequest) -> None:
    del request
