from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Annotated, Any, Final, NoReturn

import typer

from streamer_worker.cli.group import MARKUP, Group, LazyCommand

# Name, place in this package, and the first line of the help. Together the modules of the
# commands take longer to import than typer.
_COMMANDS: Final = (
    ("run", "running:run", "Run a worker until SIGTERM, SIGINT or SIGHUP."),
    (
        "enqueue",
        "enqueuing:enqueue",
        "Add a request to the queue, or the requests of a file.",
    ),
    (
        "status",
        "status.command:status",
        "Print one screen about workers, queue and failures, and what is wrong.",
    ),
    ("list", "listing:list_requests", "List requests, newest first."),
    (
        "show",
        "showing:show",
        "Print a request: state, cause, times, identity, payload and result.",
    ),
    ("watch", "watching:watch", "Follow a request until it ends."),
    ("cancel", "cancelling:cancel", "Cancel requests that wait or run."),
    (
        "redrive",
        "redriving:redrive",
        "Set FAILED or CANCELLED requests back to PENDING, so that a worker runs them again.",
    ),
    (
        "reschedule",
        "rescheduling:reschedule",
        "Change when a waiting request may run.",
    ),
    ("delete", "deleting:delete", "Delete requests that have ended, before their TTL does."),
    ("workers", "workers:workers", "List the workers that have a row in the workers table."),
    (
        "drain",
        "workers:drain",
        "Ask a worker to drain: it finishes its running requests and exits, as on SIGTERM.",
    ),
    (
        "schedules",
        "schedules:cli",
        "List the schedules of the fleet, run one now, pause and resume them.",
    ),
    (
        "pause",
        "pausing:pause",
        "Pause actions, tenants or everything: workers start none of their requests.",
    ),
    ("resume", "pausing:resume", "End pauses: the requests start at once."),
    ("pauses", "pausing:pauses", "List what is paused, since when, until when, by whom and why."),
    ("connections", "connections:cli", "List connections, and delete stale ones."),
    (
        "handlers",
        "handlers:handlers",
        "List the installed handlers, after the checks that `run` makes when it loads them.",
    ),
    ("tables", "tables:cli", "Create, check and protect the DynamoDB tables."),
    ("backup", "backups:cli", "Back up the DynamoDB tables, and restore them."),
    (
        "export",
        "transferring:export",
        "Write all items of the four tables to compressed files, and a manifest.",
    ),
    (
        "import",
        "transferring:import_",
        "Write the items of an export to the four tables, which must exist.",
    ),
    (
        "check",
        "checking:check",
        "Check the settings, handlers, credentials, tables and permissions of a worker.",
    ),
    (
        "config",
        "config:config",
        "Print the value of each setting, and its source: default, file or environment.",
    ),
    (
        "dev",
        "dev:dev",
        "Develop handlers without AWS: run a worker, and an empty DynamoDB in memory.",
    ),
    (
        "demo",
        "demo:demo",
        "Run some requests through two workers on an embedded DynamoDB. Needs no AWS account.",
    ),
)


PROGRAM: Final = "streamer-worker"
_EXIT_HOOKS_WITHIN: Final = 5.0
"""Seconds."""


class _Commands(Group):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, location, text in _COMMANDS:
            self.add_command(LazyCommand(name, location, text))


cli = typer.Typer(
    cls=_Commands,
    name=PROGRAM,
    help="Background worker for requests queued in DynamoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},  # those of all commands, too
)


def _print_version(requested: bool | None) -> None:  # noqa: FBT001  typer's callback
    if requested:
        from importlib.metadata import version

        from streamer_worker.cli.output import print_line

        print_line(version("streamer-worker"))
        raise typer.Exit


@cli.callback()
def _options(
    *,
    _version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version),
    ] = None,
) -> None:
    pass


def main() -> None:
    """Run a command, and end the process.

    Errors are printed on stderr in one line. The exit code is 1 if the work failed, and 2 if the
    command line, the settings or the handlers are wrong.
    """
    accept_any_character()
    try:
        _run()
    except SystemExit as end:
        if isinstance(end.code, int | None) and _has_other_threads():
            from streamer_worker.concurrency.exits import Exit

            Exit(hooks_within=_EXIT_HOOKS_WITHIN).after_hooks(end.code or 0)
        raise


def _run() -> None:
    try:
        cli(prog_name=PROGRAM)
    except (Exception, BaseExceptionGroup) as error:
        from streamer_worker.cli import faults

        if failure := faults.output_error(error):
            _end_without_output(failure)
        code = faults.exit_code_of(error)
        if code is not None:
            faults.report(error)
            sys.exit(code)
        if isinstance(cause := faults.unwrap(error), SystemExit):
            sys.exit(cause.code)  # rich raises it when the other end of a pipe is closed
        raise


def _has_other_threads() -> bool:
    """Whether Python would wait for threads, such as those that a plugin starts on import."""
    main_thread = threading.main_thread()
    return any(not each.daemon and each is not main_thread for each in threading.enumerate())


def _end_without_output(error: OSError) -> NoReturn:
    """Exit with 1 because stdout cannot be written. Print why, unless a pipe was closed."""
    from streamer_worker.cli.output import print_error

    if not isinstance(error, BrokenPipeError):  # `| head` has read what it wanted
        with suppress(OSError, ValueError, SystemExit):
            print_error(f"cannot write the output: {error.strerror}")
    sys.exit(1)


def accept_any_character() -> None:
    """Let stdout escape the characters that its encoding lacks, instead of raising."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
