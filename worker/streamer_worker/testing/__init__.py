"""Test handlers without AWS and without waiting.

* `run_handler` runs one attempt of one handler as the worker does, and returns a HandlerRun.
* `start_handler` does the same, and the test can act while the handler runs.
* `memory_worker` runs a whole worker on stores in memory.
* `streamer_worker.testing.fixtures` has the worker as a pytest fixture, for tests that are not
  async.

A handler whose group has a lifespan needs a state: `state=` here, `states=` for a whole worker.
The lifespan itself is entered only if the test asks for it.
"""

from streamer_worker.errors import HandlerLoadError, LifespanError
from streamer_worker.testing.arguments import Payload
from streamer_worker.testing.recording import SentMessage
from streamer_worker.testing.runs import HandlerRun, run_handler, start_handler
from streamer_worker.testing.workers import Delivered, MemoryWorker, memory_worker

__all__ = [
    "Delivered",
    "HandlerLoadError",
    "HandlerRun",
    "LifespanError",
    "MemoryWorker",
    "Payload",
    "SentMessage",
    "memory_worker",
    "run_handler",
    "start_handler",
]
