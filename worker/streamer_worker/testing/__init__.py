"""Tests of handlers without AWS and without waiting: one handler, or a whole worker.

`run_handler` runs one attempt of one handler as the worker would and returns all that came of
it; `start_handler` lets a test step in meanwhile. `memory_worker` is a whole worker on stores
in memory. `streamer_worker.testing.fixtures` has the latter as a pytest fixture for tests that
are not async.
"""

from streamer_worker.testing.runs import HandlerRun, run_handler, start_handler
from streamer_worker.testing.workers import Delivered, MemoryWorker, memory_worker

__all__ = [
    "Delivered",
    "HandlerRun",
    "MemoryWorker",
    "memory_worker",
    "run_handler",
    "start_handler",
]
