"""The demo: two workers run requests on an embedded DynamoDB, and one of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import anyio

from streamer_store import AsyncRequest, RequestStatus, Stores, open_stores
from streamer_store.transitions import TERMINAL
from streamer_worker.demo.environment import export_line, use_dummy_credentials
from streamer_worker.demo.moto import embedded_dynamodb
from streamer_worker.demo.view import View
from streamer_worker.demo.workers import DemoWorker, demo_workers

_HANDLERS: Final = ("streamer_worker.demo.handlers",)
_TIMEOUT: Final = 60.0
_REFRESH_SECONDS: Final = 0.2
_READING_SECONDS: Final = 1.0
_WORKERS: Final = ("A", "B")
# The only action whose requests are meant to fail.
_FAILING_ACTION: Final = "charge_card"
_KILLED_AFTER_ROW: Final = 10
_LEASE: Final = 3
_SETTINGS: Final = {
    "STREAMER_CONCURRENCY": "4",
    "STREAMER_HTTP_HOST": "127.0.0.1",
    "STREAMER_HTTP_PORT": "0",
    "STREAMER_LOG_FORMAT": "json",
    # Much shorter than by default, so that a dead worker is noticed within seconds.
    "STREAMER_PRESENCE_HEARTBEAT": "500ms",
    "STREAMER_PRESENCE_LEASE": f"{_LEASE}s",
    "STREAMER_PUSH": "off",  # there are no connections
    "STREAMER_REGION": "us-east-1",
}


async def run_demo(
    view: View, *, keep_running: bool, references: Sequence[str] = _HANDLERS
) -> bool:
    """Run the demo; return whether every request ended as expected.

    Changes os.environ: settings and AWS credentials of the caller are removed.
    """
    for name in list(os.environ):
        if name.startswith("STREAMER_"):
            del os.environ[name]
    use_dummy_credentials()
    async with AsyncExitStack() as opened:
        url = opened.enter_context(embedded_dynamodb())
        stores = await opened.enter_async_context(
            open_stores(endpoint_url=url, region="us-east-1", batch_writes=False)
        )
        await stores.create_tables()
        with view:
            view.caption(
                "Two workers start: each is a process of its own, `streamer-worker run`.",
                "They need nothing but the tables: no broker, and no configured leader.",
            )
            view.show([], {})
            settings = _SETTINGS | {"STREAMER_ENDPOINT_URL": url}
            workers = await opened.enter_async_context(
                demo_workers(_WORKERS, settings=settings, references=references)
            )
            scenes = _Scenes(stores, workers, view)
            with anyio.move_on_after(_TIMEOUT):
                await scenes.play()
            faults = await scenes.faults()
        _summarize(view, scenes, faults)
        if keep_running:
            await _wait_for_signal(view, url, workers)
        else:
            _suggest(view)
    return not faults


class _Scenes:
    """Plays the scenes one after the other. `requests` are all requests as they were seen last."""

    def __init__(self, stores: Stores, workers: Sequence[DemoWorker], view: View) -> None:
        self._stores = stores
        self._workers = workers
        self._names = {worker.worker_id: worker.name for worker in workers}
        self._view = view
        self._began = anyio.current_time()
        self._seconds = 0.0
        self.requests: list[AsyncRequest] = []

    async def play(self) -> None:
        await self._share()
        await self._retry()
        await self._kill()
        self._seconds = anyio.current_time() - self._began

    @property
    def seconds(self) -> float:
        """How long the scenes took."""
        return self._seconds or anyio.current_time() - self._began

    async def faults(self) -> list[str]:
        """Read the requests once more, and return how they differ from what is expected."""
        await self._refresh()
        faults = [
            f"{request.action} {request.request_id} is {request.status}, expected"
            f" {_expected(request)}"
            for request in self.requests
            if request.status is not _expected(request)
        ]
        ended = {request.action: request for request in self.requests}
        if (mail := ended.get("send_mail")) is None or not mail.retry_count:
            faults.append("send_mail was not retried")
        rows = ended.get("import_rows")
        if rows is None or (rows.result or {}).get("first_row", 1) == 1:
            faults.append("import_rows did not continue from its checkpoint")
        return faults

    async def _share(self) -> None:
        self._view.caption(
            "1 of 3: six requests wait in the table. The workers share them.",
            "Handlers report progress. The worker writes it to the table, as shown here.",
        )
        await self._enqueue("generate_report", pages=6)
        await self._enqueue("bulk_update", items=250)
        await self._enqueue("echo", number=1)
        await self._enqueue("generate_report", pages=12)
        await self._enqueue("bulk_update", items=300)
        await self._enqueue("echo", number=2)
        await self._until(self._all_ended)

    async def _retry(self) -> None:
        self._view.caption(
            "2 of 3: the first attempt of send_mail fails. It runs again after a delay.",
            "The handler of charge_card rejects its request, which is never retried.",
        )
        await self._enqueue("send_mail", to="ada@example.com")
        await self._enqueue(_FAILING_ACTION, card="…4000")
        await self._until(self._all_ended)

    async def _kill(self) -> None:
        self._view.caption(
            "3 of 3: import_rows saves a checkpoint every 5 rows.",
            "The worker that runs it will be killed.",
        )
        request_id = await self._enqueue("import_rows", rows=25)
        await self._until(lambda: self._has_checkpoint() or self._all_ended(), then_wait=False)
        request = await self._stores.requests.get(request_id)
        running = [each for each in self._workers if each.worker_id == request.worker_id]
        if not running or request.status is not RequestStatus.PROCESSING:
            return  # faults() reports it
        victim = running[0]
        (other,) = (each for each in self._workers if each is not victim)
        await victim.kill()
        self._view.caption(
            f"3 of 3: worker {victim.name} was killed by SIGKILL. In {_LEASE} s its lease runs out."
            f" Then",
            f"worker {other.name} continues the request from the checkpoint, not from row 1.",
        )
        await self._until(self._all_ended)

    async def _enqueue(self, action: str, **payload: object) -> str:
        request = AsyncRequest(action=action, payload=payload)
        stored = await self._stores.requests.enqueue(request)
        self.requests.append(stored)
        return stored.request_id

    async def _until(self, holds: Callable[[], bool], *, then_wait: bool = True) -> None:
        """Show the requests until the condition holds.

        then_wait: on a terminal, show them a little longer, so that the end can be read.
        """
        while True:
            await self._refresh()
            if holds():
                break
            await anyio.sleep(_REFRESH_SECONDS)
        if then_wait and self._view.is_live:
            await anyio.sleep(_READING_SECONDS)

    async def _refresh(self) -> None:
        ids = [request.request_id for request in self.requests]
        found = await self._stores.requests.get_many(ids)
        self.requests = [found[request_id] for request_id in ids]
        self._view.show(self.requests, self._names)

    def _all_ended(self) -> bool:
        return all(request.status in TERMINAL for request in self.requests)

    def _has_checkpoint(self) -> bool:
        checkpoint = self.requests[-1].checkpoint or {}
        return bool(checkpoint.get("row", 0) >= _KILLED_AFTER_ROW)


def _expected(request: AsyncRequest) -> RequestStatus:
    return RequestStatus.FAILED if request.action == _FAILING_ACTION else RequestStatus.COMPLETED


def _summarize(view: View, scenes: _Scenes, faults: Sequence[str]) -> None:
    counts = Counter(request.status.lower() for request in scenes.requests)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    view.print()
    view.print(f"{len(scenes.requests)} requests in {scenes.seconds:.1f} s: {text}.")
    for fault in faults:
        view.print(f"ERROR: {fault}")
    if not faults:
        view.print(f"Every request ended as expected ({_FAILING_ACTION} is meant to fail).")


def _suggest(view: View) -> None:
    view.print()
    view.print("Try next:")
    view.print("  streamer-worker demo --keep-running          requests of your own, metrics")
    view.print("  streamer-worker dev --handlers hello:greet   your handler in hello.py, no AWS")
    view.print("  docs/handlers.md                             how handlers are written")
    if shutil.which("streamer-worker") is None:  # as after `make demo`
        view.print(f"Your shell finds streamer-worker as {os.path.relpath(sys.argv[0])}")


async def _wait_for_signal(view: View, url: str, workers: Sequence[DemoWorker]) -> None:
    (alive,) = [worker for worker in workers if not worker.killed][:1]
    view.print()
    view.print(f"Worker {alive.name} keeps running, with metrics at {alive.metrics_url}")
    view.print("To add a request, run these lines in another terminal:")
    view.print(f"  {export_line(url)}")
    view.print("  streamer-worker enqueue echo --payload '{\"n\": 1}' --wait")
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        view.print("Press Ctrl-C to stop it.")
        await anext(aiter(signals))
