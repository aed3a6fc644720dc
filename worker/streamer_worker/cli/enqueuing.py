from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer_store import AsyncRequest
from streamer_store.models import DEFAULT_MAX_RETRIES
from streamer_worker.cli.bulk import MaxWriteUnitsOption
from streamer_worker.cli.enqueue_file import enqueue_file
from streamer_worker.cli.enqueue_one import enqueue_one, read_payload
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    TimeoutOption,
    YesOption,
)
from streamer_worker.cli.request_lines import PriorityChoice
from streamer_worker.cli.run_times import AtOption, BeyondAYearOption, InOption, delay_of
from streamer_worker.cli.unique_options import (
    ConflictChoice,
    OnConflictOption,
    UniqueForOption,
    UniqueKeyOption,
    window_of,
)


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
        PriorityChoice | None,
        typer.Option(
            "--priority",
            metavar="PRIORITY",
            case_sensitive=False,
            help="`high` runs before others, `low` when no other request waits.",
        ),
    ] = None,
    in_: InOption = None,
    at: AtOption = None,
    beyond_a_year: BeyondAYearOption = False,
    unique_key: UniqueKeyOption = None,
    unique_for: UniqueForOption = None,
    on_conflict: OnConflictOption = ConflictChoice.KEEP,
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
    with 1 unless the request is COMPLETED, and with 124 if it has not ended within --timeout. If
    --unique-key has a request already, its id is printed, and a line on standard error says so.

    Each line of the file is a JSON object with `action` and, if you want, `request_id`,
    `payload`, `connection_id`, `user_id`, `tenant_id`, `max_retries`, `priority`, `run_at`,
    `unique_key`, `unique_for`, `created_at` and `ttl`. A request that is in the table already, with
    the same fields, is left alone. So a file whose requests have ids, or --id-prefix, can be added
    again after an interruption. Exits with 1 if a line is refused.

    Examples: `streamer-worker enqueue echo --payload '{"n": 1}' --wait`,
    `streamer-worker enqueue send_reminder --at 2027-01-31T08:00+01:00`,
    `streamer-worker enqueue reindex --unique-key d7 --in 5s --on-conflict replace-waiting`,
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
            priority=None if priority is None else priority.argument,
            unique_key=unique_key,
            unique_for=window_of(unique_for),
        )
        enqueue_one(
            request,
            config,
            run_at=at,
            delay=delay_of(in_, at),
            beyond_a_year=beyond_a_year,
            on_conflict=on_conflict.argument,
            wait=wait,
            timeout=timeout,
            as_json=as_json,
        )
        return
    of_one = (
        *(action, payload, connection, user, tenant, request_id),
        *(max_retries, priority, in_, at, unique_key, unique_for, timeout),
    )
    if wait or any(value is not None for value in of_one):
        raise typer.BadParameter(
            "--file cannot be combined with an action, --payload, --connection, --user, --tenant,"
            " --id, --max-retries, --priority, --in, --at, --unique-key, --unique-for, --wait or"
            " --timeout: each line has its own fields"
        )
    enqueue_file(
        file,
        config,
        id_prefix=id_prefix,
        max_write_units=max_write_units,
        beyond_a_year=beyond_a_year,
        on_conflict=on_conflict.argument,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _required_id(request_id: str | None) -> str:
    """Return the id, or an empty text for a new one. An empty id is a script's mistake."""
    if request_id == "":
        raise typer.BadParameter("is empty", param_hint="--id")
    return request_id or ""
