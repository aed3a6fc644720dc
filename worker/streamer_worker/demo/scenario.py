"""The demo: one worker runs a few dozen requests on an embedded DynamoDB."""

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

_TIMEOUT: Final = 60.0
_REFRESH_SECONDS: Final = 0.2
_USERS = (("ada", "acme"), ("grace", "acme"), ("linus", "globex"), ("edsger", "initech"))
# The only action whose requests are meant to fail.
_FAILING_ACTION: Final = "charge_card"
_DUMMY_ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",  # pragma: allowlist secret
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",  # takes precedence over NO_PROXY
}


async def run_demo(console: Console, *, keep_running: bool) -> bool:
    """Run the demo; return whether every request ended in its expected status.

    Changes os.environ: settings and AWS credentials of the caller are removed.
    """
    for name in list(os.environ):
        if name in {"AWS_PROFILE", "AWS_SESSION_TOKEN"} or name.startswith("STREAMER_"):
            del os.environ[name]
    os.environ.update(_DUMMY_ENVIRONMENT)
    with embedded_dynamodb() as url:
        settings = Settings(
            endpoint_url=url,
            region="us-east-1",
            batch_writes=False,  # moto reports success for writes whose condition failed
            concurrency=12,
            http=HttpSettings(port=0),
            push="off",  # the connections do not exist
        )
        async with open_app(settings, registry(HANDLERS), end=_fail, leave=_fail_stuck) as app:
            await app.stores.create_tables()
            async with anyio.create_task_group() as tasks:
                metrics_url = await tasks.start(app.run)
                began = anyio.current_time()
                stored = (await app.stores.requests.enqueue_many(_requests())).records
                with View(console) as view:
                    ids = [request.request_id for request in stored]
                    ended = await _watch(app.stores, ids, view)
                seconds = anyio.current_time() - began
                success = _summarize(view, ended, seconds, f"metrics at {metrics_url}")
                if keep_running:
                    await _wait_for_signal(console, url)
                app.stop()
    return success


def _fail(reason: str) -> None:
    raise RuntimeError(reason)


def _fail_stuck() -> None:
    raise RuntimeError("a handler of the demo does not end")


def _requests() -> list[AsyncRequest]:
    requests = []
    for number in range(9):
        for place, (user, tenant) in enumerate(_USERS):
            action, payload = _action_and_payload(number + place, number)
            requests.append(
                AsyncRequest(
                    action=action,
                    payload=payload,
                    connection_id=f"connection-{user}",
                    user_id=user,
                    tenant_id=tenant,
                )
            )
    return requests


def _action_and_payload(kind: int, number: int) -> tuple[str, dict[str, object]]:
    match kind % 4:
        case 0:
            return "generate_report", {"pages": 8 + 2 * number}
        case 1:
            return "bulk_update", {"items": 250 + 25 * number}
        case 2:
            return "echo", {"number": number}
    return _FAILING_ACTION, {"card": f"…{4000 + number}"}


async def _watch(stores: Stores, ids: Sequence[str], view: View) -> list[AsyncRequest]:
    """Show the requests until all have ended, for up to 60 s; return them as they are then."""
    with anyio.move_on_after(_TIMEOUT):
        while True:
            requests = list((await stores.requests.get_many(ids)).values())
            view.show(requests)
            if all(request.status in TERMINAL for request in requests):
                break
            await anyio.sleep(_REFRESH_SECONDS)
    return list((await stores.requests.get_many(ids)).values())


def _summarize(view: View, ended: Sequence[AsyncRequest], seconds: float, metrics: str) -> bool:
    """Print the summary; return whether every request ended in its expected status."""
    counts = Counter(request.status.value for request in ended)
    wrong = [request for request in ended if request.status is not _expected(request)]
    lines = [f"{len(ended)} requests in {seconds:.1f} s; {metrics}"]
    lines += [
        f"ERROR: {request.request_id} is {request.status}, expected {_expected(request)}"
        for request in wrong
    ]
    if not wrong:
        lines.append(f"Every request ended as expected ({_FAILING_ACTION} is meant to fail).")
    view.summary(counts, lines)
    return not wrong


def _expected(request: AsyncRequest) -> RequestStatus:
    return RequestStatus.FAILED if request.action == _FAILING_ACTION else RequestStatus.COMPLETED


async def _wait_for_signal(console: Console, url: str) -> None:
    console.print("The worker is running. To add a request, run this in another terminal:")
    command = (
        f"AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo STREAMER_ENDPOINT_URL={url} "
        "streamer-worker enqueue echo --payload '{\"n\": 1}' --wait"
    )
    console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        console.print("Press Ctrl-C to stop it.")
        await anext(aiter(signals))
