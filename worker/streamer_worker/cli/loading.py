"""Loads the handlers of a command that has the options --handlers and --app-dir."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers import registry
from streamer_worker.handlers.references import ReferenceInvalid, add_to_path


def find_handlers(references: Sequence[str] | None, app_dir: Path) -> registry.Registry:
    """Return the installed handlers, and those that --handlers names.

    With references, `app_dir` becomes the first entry of sys.path. Raises HandlerLoadError.
    """
    if not references:
        return registry.load_handlers()
    try:
        add_to_path(app_dir)
    except ReferenceInvalid as error:
        raise HandlerLoadError("handlers cannot be loaded:", [str(error)]) from error
    return registry.load_handlers(references=references)
