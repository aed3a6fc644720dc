"""A test that does not end: what all of it waits for is printed, and the process ends.

The process ends because an exception in the test would not be enough: its teardown could hang
again, behind a shield or at a thread. With `pytest -n` the run stops, and names the test.
"""

from __future__ import annotations

import faulthandler
import gc
import inspect
import os
import sys
import threading
from collections.abc import Iterator
from types import CoroutineType
from typing import Any

import pytest

_STDERR = 2
_LIBRARIES = (sys.prefix, sys.base_prefix)


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Take the place of pytest-timeout's own ways: with -n those show nothing."""
    timer = threading.Timer(settings.timeout, _end, (item, settings.timeout))
    timer.name = "test timeout"
    timer.daemon = True
    timer.start()
    item.cancel_timeout = timer.cancel  # type: ignore[attr-defined]
    return True


def _end(item: pytest.Item, seconds: float) -> None:
    try:
        capture = item.config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        _say(f"\n{item.nodeid} did not end within {seconds:g} s\n")
        for line in _suspended():
            _say(line)
        faulthandler.dump_traceback(_STDERR)
    finally:
        os._exit(1)


def _suspended() -> Iterator[str]:
    """Yield where our own coroutines wait: a thread's stack shows only the event loop."""
    for each in gc.get_objects():
        if not isinstance(each, CoroutineType):
            continue
        frame = each.cr_frame
        if inspect.getcoroutinestate(each) == inspect.CORO_SUSPENDED and frame is not None:
            path = frame.f_code.co_filename
            if not path.startswith(_LIBRARIES):
                yield f'  waiting: File "{path}", line {frame.f_lineno} in {each.__qualname__}\n'


def _say(text: str) -> None:
    os.write(_STDERR, text.encode(errors="replace"))
