from __future__ import annotations

from streamer_worker.cli.options import ConfigOption


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
