"""The same work with saq on redis: run in a virtual environment that has saq.

`python -m bench.saq_queue fill URL TOTAL` stores jobs, `work URL` runs them, and `count URL` prints
how many are not finished. URL: that of redis.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

from saq import Queue, Worker

from bench.counter import Counter
from bench.payloads import RESULT, payload

CONCURRENCY: Final = 32
"""The default concurrency of our worker."""
_PAYLOAD_BYTES: Final = 300
_KEEP_SECONDS: Final = 3600
_TOGETHER: Final = 100


async def noop(_context: Any, *, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Count the job, and return a small result, which saq keeps."""
    _started.add()
    return RESULT


async def _fill(url: str, total: int) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    body = payload(_PAYLOAD_BYTES)
    for start in range(0, total, _TOGETHER):
        await asyncio.gather(
            *(
                queue.enqueue("noop", body=body, ttl=_KEEP_SECONDS)
                for _ in range(start, min(total, start + _TOGETHER))
            )
        )
    await queue.disconnect()


async def _work(url: str) -> None:
    worker = Worker(Queue.from_url(url), functions=[noop], concurrency=CONCURRENCY)
    await worker.start()


async def _count_unfinished(url: str) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    print(await queue.count("incomplete"))  # noqa: T201
    await queue.disconnect()


if __name__ == "__main__":
    kind, address, *rest = sys.argv[1:]
    if kind == "fill":
        asyncio.run(_fill(address, int(rest[0])))
    elif kind == "work":
        _started = Counter.of_this_process()
        asyncio.run(_work(address))
    else:
        asyncio.run(_count_unfinished(address))
