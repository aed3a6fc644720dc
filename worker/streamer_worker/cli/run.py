from __future__ import annotations

import signal

import anyio

from streamer_worker.app import App, open_app
from streamer_worker.cli.options import ConfigOption
from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.registry import GROUP, load_handlers
from streamer_worker.logs import LogListener, configure_logging
from streamer_worker.settings import Settings, load_settings


def run(config: ConfigOption = None) -> None:
    """Work on waiting requests until SIGTERM or SIGINT; then finish what runs, and exit 0.

    A second signal waits for no handler. Settings come from `STREAMER_…` variables, handlers
    from the installed packages' entry points.
    """
    settings = load_settings(config)
    configure_logging(settings.log)
    registry = load_handlers()
    if not registry:
        raise HandlerLoadError(
            "there are no handlers:", [f"install a package with entry points of group {GROUP}"]
        )

    async def main(settings: Settings) -> None:
        async with (
            open_app(settings, registry, [LogListener()]) as app,
            anyio.create_task_group() as tasks,
        ):
            await tasks.start(_stop_at_signals, app)
            await app.run()
            tasks.cancel_scope.cancel()

    anyio.run(main, settings)


async def _stop_at_signals(
    app: App, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            app.stop()
