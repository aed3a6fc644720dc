from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from streamer_store import StoreError
from streamer_worker.cli import (
    checking,
    config,
    connections,
    demo,
    faults,
    handlers,
    listing,
    output,
    redriving,
    requests,
    tables,
    watching,
    workers,
)
from streamer_worker.cli.group import Group
from streamer_worker.cli.options import ConfigOption
from streamer_worker.errors import StartError

cli = typer.Typer(
    cls=Group,
    name="streamer-worker",
    help="Background worker for requests queued in DynamoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


@cli.command()
def run(config: ConfigOption = None) -> None:
    """Run a worker until SIGTERM, SIGINT or SIGHUP.

    After the signal it claims no more requests, lets handlers finish for up to `drain_timeout`,
    releases the requests whose handlers have not finished, and exits with 0. After a second
    signal it does not let handlers finish. Settings come from STREAMER_… variables and --config.
    Handlers come from the entry points of installed packages.

    Example: `streamer-worker run --config /etc/streamer-worker/config.toml`
    """
    from streamer_worker.cli.run import run_worker

    run_worker(config)


cli.command("enqueue")(requests.enqueue)
cli.command("list")(listing.list_requests)
cli.command("show")(requests.show)
cli.command("watch")(watching.watch)
cli.command("cancel")(requests.cancel)
cli.command("redrive")(redriving.redrive)
cli.command("workers")(workers.workers)
cli.command("drain")(workers.drain)
cli.add_typer(connections.cli, name="connections")
cli.command("handlers")(handlers.handlers)
cli.add_typer(tables.cli, name="tables")
cli.command("check")(checking.check)
cli.command("config")(config.config)
cli.command("demo")(demo.demo)


def _print_version(requested: bool | None) -> None:  # noqa: FBT001  typer's callback
    if requested:
        output.print_line(version("streamer-worker"))
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
    """Run a command.

    Errors are printed on stderr in one line. The exit code is 1 if the work failed, and 2 if the
    command line, the settings or the handlers are wrong.
    """
    output.accept_any_character()
    try:
        cli()
    except (StartError, StoreError, BaseExceptionGroup) as error:
        code = faults.exit_code_of(error)
        if code is not None:
            faults.report(error)
            sys.exit(code)
        if isinstance(cause := faults.unwrap(error), SystemExit):
            sys.exit(cause.code)  # rich raises it when the other end of a pipe is closed
        raise
