from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streamer_store import Difference, SystemClock, TableNames, ValidationError
from streamer_store.times import format_time
from streamer_worker.cli.bulk import explained
from streamer_worker.cli.formatting import counted, json_fields
from streamer_worker.cli.group import MARKUP, Group
from streamer_worker.cli.options import ConfigOption, JsonOption, with_client
from streamer_worker.cli.output import (
    confirm_many,
    print_json,
    print_line,
    print_table,
    status_spinner,
)
from streamer_worker.cli.tables import (
    ProtectOption,
    exit_if_blocking,
    print_differences,
    print_protected,
)

if TYPE_CHECKING:
    from streamer_store.dynamo.backup_records import Backup
    from streamer_store.dynamo.client import CheckedClient
    from streamer_store.dynamo.restoring import Restored

cli = typer.Typer(
    cls=Group,
    help="Back up the DynamoDB tables, and restore them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
)

_WITHOUT_TERMINAL: Final = "give --yes to delete them"
_COLUMNS = ("backup", "created (UTC)", "tables", "size", "status")


def _parse_name(text: str) -> str:
    from streamer_store.dynamo.backup_records import check_name

    return _checked(text, check_name)


def _parse_prefix(text: str) -> str:
    from streamer_store.table_names import check_prefix

    return _checked(text, check_prefix)


def _checked(text: str, check: Callable[[str], None]) -> str:
    """Return the text if the check accepts it. Raises typer.BadParameter."""
    try:
        check(text)
    except ValidationError as error:
        raise typer.BadParameter(error.message) from error
    return text


def _parse_timeout(text: str) -> float:
    from streamer_worker.settings import seconds

    duration = seconds(text)
    if not isinstance(duration, float) or duration <= 0:
        raise typer.BadParameter(f"{text!r} is no duration, such as 30s, 90m or 2h")
    return duration


NameArgument = Annotated[
    str,
    typer.Argument(
        parser=_parse_name, help="Name of the backup: 3 to 255 of a-z, A-Z, 0-9, _ . and -"
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        parser=_parse_timeout,
        metavar="TIME",
        help="Exit with 1 after this time, such as 90m or 2h. DynamoDB continues, and the same"
        " command waits again, or says that it is done. Default: wait for as long as it takes.",
    ),
]


@cli.command()
def create(
    name: NameArgument,
    *,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Back up the four tables under one name, and wait until the backups are AVAILABLE.

    The workers may run meanwhile. The four backups are begun together, but are not of one
    moment: the command prints their times, and each may be off by a minute. A name is used once:
    within an hour the same command completes the backup, or prints that it is complete, and later
    it is refused.

    Example: `streamer-worker backup create before-upgrade`
    """
    from streamer_store.dynamo import backups

    async def work(client: CheckedClient, names: TableNames) -> Backup:
        with status_spinner(f"Backing up {names}") as on_status:
            return await backups.create(
                client,
                names,
                name,
                clock=SystemClock(),
                timeout=_or_endless(timeout),
                on_status=on_status,
            )

    with explained(lambda: "DynamoDB continues"):
        backup = with_client(config, work)
    if as_json:
        print_json(_json(backup))
    else:
        text = f"backed up {counted(len(backup.tables), 'table')}, {_size(backup)}"
        print_line(f"{backup.name}: {text}, as of {_span(backup)} UTC")


@cli.command("list")
def list_backups(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the on-demand backups of the tables, newest first.

    These are the tables of the settings. They need not exist any more. Backups that
    AWS Backup has made are not listed.

    Example: `streamer-worker backup list`
    """
    from streamer_store.dynamo import backups

    async def work(client: CheckedClient, names: TableNames) -> tuple[list[Backup], TableNames]:
        return await backups.list_backups(client, names), names

    found, names = with_client(config, work)
    if as_json:
        print_json([_json(backup) for backup in found])
    elif found:
        print_table(_COLUMNS, map(_cells, found))
    else:
        print_line(f"no backups of tables {names}")


@cli.command()
def delete(
    name: NameArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete the backups of this name of all four tables. They cannot be brought back.

    These are the tables of the settings, also if they were restored elsewhere.
    The command asks for confirmation. Exits with 1 if there is no such backup or the answer is
    no, and with 2 if there is no terminal to ask on.

    Example: `streamer-worker backup delete before-upgrade`
    """
    from streamer_store.dynamo import backups

    async def work(client: CheckedClient, names: TableNames) -> int:
        backup = await backups.get(client, names, name)
        count = len(backup.tables) + len(backup.older)
        question = f"Delete {counted(count, 'backup')} {name} of {_span(backup)} UTC?"
        confirm_many(question, yes=yes, without_terminal=_WITHOUT_TERMINAL)
        return await backups.delete(client, backup)

    deleted = with_client(config, work)
    if as_json:
        print_json({"name": name, "deleted": deleted})
    else:
        print_line(f"deleted {counted(deleted, 'backup')} {name}")


@cli.command()
def restore(
    name: NameArgument,
    *,
    to: Annotated[
        str,
        typer.Option(
            parser=_parse_prefix,
            metavar="PREFIX",
            help="Prefix of the new tables. None of them may exist, unless the same command has"
            " begun to restore it.",
        ),
    ],
    protect: ProtectOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Restore a backup into new tables, and wait until a worker can use them.

    The backup is of the tables of the settings, and the new tables have PREFIX.
    This may take hours. The command may be interrupted: DynamoDB continues, and the same command
    waits again. It enables TTL, adds DueIndex if the backup lacks it, and prints the differences
    from what the worker expects, as by `tables check`. Exits with 1 if a worker cannot work
    with the tables. Workers use the new tables when the setting `table_prefix` is PREFIX, and no
    table has a name of its own in `table_names`.

    Example: `streamer-worker backup restore before-upgrade --to restored_`
    """
    from streamer_store.dynamo import protection, restoring, tables

    async def work(
        client: CheckedClient, names: TableNames
    ) -> tuple[Restored, list[str], list[Difference]]:
        with status_spinner(f"Restoring {to}…") as on_status:
            restored = await restoring.restore(
                client, names, name, to=to, timeout=_or_endless(timeout), on_status=on_status
            )
            targets = TableNames.from_prefix(to)
            protected = await protection.enable(client, targets) if protect else []
            return restored, protected, await tables.check(client, targets)

    with explained(lambda: "DynamoDB continues"):
        (backup, begun), protected, differences = with_client(config, work)
    if as_json:
        listed = [asdict(difference) for difference in differences]
        print_json(
            {
                "backup": _json(backup),
                "prefix": to,
                "begun": list(begun),
                "protected": protected,
                "differences": listed,
            }
        )
        exit_if_blocking(differences)
        return
    print_protected(protected)
    done = "restored" if begun else "an earlier run has restored"
    text = f"{done} {counted(len(backup.tables), 'table')} as {to}…, as of {_span(backup)} UTC"
    print_differences(differences, success=text)


def _or_endless(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout


def _json(backup: Backup) -> dict[str, Any]:
    return {
        "name": backup.name,
        "status": backup.status,
        "first": format_time(backup.first),
        "last": format_time(backup.last),
        "size": backup.size,
        "tables": [json_fields(part) for part in backup.tables],
        "missing": list(backup.missing),
        "older": [json_fields(part) for part in backup.older],
    }


def _cells(backup: Backup) -> tuple[str, ...]:
    count = len(backup.tables)
    status = backup.status
    if backup.missing:
        status += f": lacks {', '.join(backup.missing)}"
    if backup.older:
        status += f", and {len(backup.older)} older of the same name"
    total = count + len(backup.missing)
    return (backup.name, _span(backup), f"{count}/{total}", _size(backup), status)


def _size(backup: Backup) -> str:
    from rich.filesize import decimal

    return decimal(backup.size)


def _span(backup: Backup) -> str:
    """Return the times of the first and the last table, or one if they are of the same second."""
    first, last = map(_second, (backup.first, backup.last))
    return first if first == last else f"{first} to {last}"


def _second(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"
