"""The demo: an embedded DynamoDB, a few dozen requests, one worker, and what became of them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Final

import anyio
from rich.console import Console

from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_store.transitions import TERMINAL
from streamer_worker.demo.handlers import HANDLERS
from streamer_worker.demo.moto import embedded_dynamodb
from streamer_worker.demo.view import View
from streamer_worker.handlers.registry import registry
from streamer_worker.settings import HttpSettings, Settings
from streamer_worker.wiring import open_app

PATIENCE: Final = 60.0
_FRAME = 0.2
_USERS = (("ada", "acme"), ("grace", "acme"), ("linus", "globex"), ("edsger", "initech"))
_FAILS: Final = "charge_card"
_DUMMY = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",  # pragma: allowlist secret
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",  # goes before the other
}


async def run_demo(console: Console, *, keep_running: bool) -> bool:
    """Run the demo; return whether every request ended as it should."""
    for name in list(os.environ):
        if name in {"AWS_PROFILE", "AWS_SESSION_TOKEN"} or name.startswith("STREAMER_"):
            del os.environ[name]
    os.environ.update(_DUMMY)
    with embedded_dynamodb() as url:
        settings = Settings(
            endpoint_url=url,
            region="us-east-1",
            concurrency=12,
            http=HttpSettings(port=0),
            push="off",  # its connections are names only
        )
        async with open_app(settings, registry(HANDLERS), end=_ended, leave=_left) as app:
            await app.stores.create_tables()
            async with anyio.create_task_group() as tasks:
                metrics_url = await tasks.start(app.run)
                began = anyio.current_time()
                stored = await app.stores.requests.enqueue_many(_requests())
                with View(console) as view:
                    ended = await _watch(app.stores, [each.request_id for each in stored], view)
                taken = anyio.current_time() - began
                well = _tell(view, ended, taken, f"/metrics was at {metrics_url}")
                if keep_running:
                    await _stay(console, url)
                app.stop()
    return well


def _ended(reason: str) -> None:
    raise RuntimeError(reason)


def _left() -> None:
    raise RuntimeError("a handler of the demo does not end")


def _requests() -> list[AsyncRequest]:
    found = []
    for number in range(9):
        for place, (user, tenant) in enumerate(_USERS):
            action, payload = _work(number + place, number)
            found.append(
                AsyncRequest(
                    action=action,
                    payload=payload,
                    connection_id=f"connection-{user}",
                    user_id=user,
                    tenant_id=tenant,
                )
            )
    return found


def _work(kind: int, number: int) -> tuple[str, dict[str, object]]:
    match kind % 4:
        case 0:
            return "generate_report", {"pages": 8 + 2 * number}
        case 1:
            return "bulk_update", {"items": 250 + 25 * number}
        case 2:
            return "echo", {"number": number}
    return _FAILS, {"card": f"…{4000 + number}"}


async def _watch(stores: Stores, ids: Sequence[str], view: View) -> list[AsyncRequest]:
    """Show the requests until all or our patience have ended; return them as they are then."""
    with anyio.move_on_after(PATIENCE):
        while True:
            requests = list((await stores.requests.get_many(ids)).values())
            view.show(requests)
            if all(request.status in TERMINAL for request in requests):
                break
            await anyio.sleep(_FRAME)
    return list((await stores.requests.get_many(ids)).values())


def _tell(view: View, ended: Sequence[AsyncRequest], taken: float, metrics: str) -> bool:
    counts = Counter(request.status.value for request in ended)
    wrong = [request for request in ended if request.status is not _expected(request)]
    lines = [f"{len(ended)} requests in {taken:.1f} s; {metrics}"]
    lines += [f"NOT as it should be: {each.request_id} is {each.status}" for each in wrong]
    if not wrong:
        lines.append(f"Every request ended as it should ({_FAILS} is meant to fail).")
    view.summary(counts, lines)
    return not wrong


def _expected(request: AsyncRequest) -> RequestStatus:
    return RequestStatus.FAILED if request.action == _FAILS else RequestStatus.COMPLETED


async def _stay(console: Console, url: str) -> None:
    console.print("Still running. In another terminal, for example:")
    command = (
        f"AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo STREAMER_ENDPOINT_URL={url} "
        "streamer-worker enqueue echo --payload '{\"n\": 1}' --wait"
    )
    console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        console.print("Ctrl-C ends it.")
        await anext(aiter(signals))
