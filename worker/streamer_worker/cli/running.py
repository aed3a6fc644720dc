from __future__ import annotations

from typing import Annotated

import typer

from streamer_worker.cli.options import APP_DIR, AppDirOption, ConfigOption, HandlersOption


def run(
    *,
    named: HandlersOption = None,
    app_dir: AppDirOption = APP_DIR,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="For development: restart the worker when a .py file below --app-dir changes.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Run a worker until SIGTERM, SIGINT or SIGHUP.

    After the signal it claims no more requests, lets handlers finish for up to `drain_timeout`,
    releases the requests whose handlers have not finished, and exits with 0. After a second
    signal it does not let handlers finish. Settings come from STREAMER_… variables and --config.
    Handlers come from the entry points of installed packages, and from --handlers.

    With --reload, handlers have 3 s to finish before the worker restarts. A worker that cannot
    start is started again after the next change.

    Example: `streamer-worker run --config /etc/streamer-worker/config.toml`, or
    `streamer-worker run --handlers hello:greet --reload` for a file hello.py
    """
    from streamer_worker.cli.run import run_worker

    run_worker(config, references=named, app_dir=app_dir, reload=reload)
