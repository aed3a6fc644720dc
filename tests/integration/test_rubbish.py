"""Answers that are not DynamoDB's count neither as success nor as DynamoDB's errors."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from integration.proxy import Proxy, stalling
from integration.rubbish import (
    ENDLESS,
    RUBBISH,
    WRONG_OUTPUTS,
    CredentialProgram,
    breaking_off,
    program,
)
from processes import PATIENCE
from streamer_store import (
    AsyncRequest,
    CallEnded,
    Candidate,
    Claim,
    NotFound,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TryFailed,
    WorkerRow,
    open_stores,
)
from streamer_store.dynamo import credentials, session
from support import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["program"]
pytestmark = pytest.mark.anyio

NOW: Final = datetime.now(UTC)
HELD: Final = Claim(request=AsyncRequest(action="a", request_id="r"), version="v")
SEEN: Final = Candidate(request_id="r", status=RequestStatus.PENDING, seen_version={"S": "v"})
CONNECTION: Final = connection("c", connected_at=NOW)


async def _all(pages: AsyncIterator[Any]) -> list[Any]:
    return [entry async for entry in pages]


CALLS: Final[dict[str, Callable[[Stores], Awaitable[Any]]]] = {
    "save": lambda to: to.connections.save(CONNECTION),
    "get a connection": lambda to: to.connections.get("c"),
    "get many connections": lambda to: to.connections.get_many(["c"]),
    "list by user": lambda to: to.connections.list_by_user("u"),
    "list all": lambda to: _all(to.connections.list_all()),
    "ping": lambda to: to.connections.update_last_ping("c"),
    "sweep": lambda to: to.connections.sweep_stale(NOW),
    "enqueue": lambda to: to.requests.enqueue(AsyncRequest(action="a", request_id="r")),
    "enqueue many": lambda to: to.requests.enqueue_many([AsyncRequest(action="a")] * 2),
    "get": lambda to: to.requests.get("r"),
    "get many": lambda to: to.requests.get_many(["r"]),
    "delete": lambda to: to.requests.delete("r"),
    "entries": lambda to: to.requests.entries(RequestStatus.PENDING, limit=5),
    "depth": lambda to: to.requests.depth(RequestStatus.PENDING, limit=5),
    "dequeue": lambda to: to.requests.dequeue(1),
    "claim": lambda to: to.requests.claim(SEEN),
    "progress": lambda to: to.requests.update_progress(HELD, 0.5),
    "checkpoint": lambda to: to.requests.checkpoint(HELD, 1),
    "complete": lambda to: to.requests.complete(HELD, {"n": 1}),
    "fail": lambda to: to.requests.fail(HELD, "no", "NO"),
    "retry": lambda to: to.requests.retry(HELD, timedelta(seconds=1)),
    "release": lambda to: to.requests.release(HELD),
    "cancel": lambda to: to.requests.cancel("r"),
    "redrive": lambda to: to.requests.redrive("r"),
    "subscribe": lambda to: to.subscriptions.subscribe("c", "r"),
    "unsubscribe": lambda to: to.subscriptions.unsubscribe("c", "r"),
    "subscriptions": lambda to: to.subscriptions.get_by_request("r"),
    "register": lambda to: to.workers.register(WorkerRow(worker_id="w", started_at=NOW)),
    "beat": lambda to: to.workers.beat("w", in_flight=0, draining=False, sweeps=0),
    "workers": lambda to: to.workers.list(),
    "remove": lambda to: to.workers.remove("w"),
    "check tables": lambda to: to.check_tables(),
    "create tables": lambda to: to.create_tables(),
}


async def _unavailable(call: Callable[[], Awaitable[Any]]) -> str:
    """Return "" if the call raises StoreUnavailable, and otherwise its result."""
    try:
        result = await call()
    except StoreUnavailable:
        return ""
    except Exception as error:  # noqa: BLE001  the test shows all that is wrong
        return repr(error)
    return f"returned {result!r}"


@pytest.mark.parametrize("kind", RUBBISH)
async def test_every_call_refuses_foreign_answers(
    kind: str, real: tuple[Stores, dict[str, str]], proxy: Proxy
) -> None:
    """Every call of every store raises StoreUnavailable."""
    stores, settings = real
    async with open_stores(
        endpoint_url=proxy.url,
        prefix=settings["STREAMER_TABLE_PREFIX"],
        attempts=1,
        observe=lambda _: None,
    ) as behind:
        proxy.fault = RUBBISH[kind]
        results = {name: await _unavailable(partial(call, behind)) for name, call in CALLS.items()}
    assert {name: text for name, text in results.items() if text} == {}
    with pytest.raises(NotFound):
        await stores.requests.get("never")


async def test_an_answer_without_an_end_is_not_read_to_the_end(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless answer must not fill the memory until the call's time limit."""
    monkeypatch.setattr(session, "_MAX_BODY_BYTES", 4 * 1024 * 1024)
    async with open_stores(endpoint_url=proxy.url, attempts=1) as behind:
        proxy.fault = ENDLESS
        with pytest.raises(StoreUnavailable, match="more than 4194304 bytes"):
            await behind.workers.list()


@pytest.mark.parametrize("stalls", [True, False])
async def test_an_answer_that_breaks_off_is_tried_again(proxy: Proxy, *, stalls: bool) -> None:
    """The client repeats the call, as without any answer."""
    async with open_stores(endpoint_url=proxy.url, attempts=2, read_timeout=0.2) as behind:
        proxy.fault = breaking_off(stalls=stalls)
        with pytest.raises(StoreUnavailable):
            await behind.workers.list()
    assert proxy.calls["Scan"] == 2


async def test_a_call_has_a_time_limit_over_all_its_tries(proxy: Proxy) -> None:
    """At the limit the call is reported as failed, with its duration."""
    events: list[CallEnded | TryFailed] = []
    async with open_stores(
        endpoint_url=proxy.url, call_timeout=0.5, observe=events.append
    ) as behind:
        proxy.fault = stalling
        with pytest.raises(StoreUnavailable, match=r"no answer within 0.5 s"):
            await behind.workers.list()
    assert events == [
        TryFailed(operation="Scan", code="CallTimeout", throttled=False),
        CallEnded(operation="Scan", seconds=0.5),
    ]


async def test_a_short_fault_is_hidden_by_retries(
    real: tuple[Stores, dict[str, str]], proxy: Proxy
) -> None:
    """The client itself repeats the call, as after a lost connection."""
    stores, settings = real
    left = iter(RUBBISH.values())

    async def fault(request: Any, forward: Any) -> Any:
        return await next(left)(request, forward) if proxy.calls["PutItem"] < 3 else await forward()

    proxy.fault = fault
    prefix = settings["STREAMER_TABLE_PREFIX"]
    async with open_stores(endpoint_url=proxy.url, prefix=prefix) as behind:
        stored = await behind.requests.enqueue(AsyncRequest(action="a"))
    assert (await stores.requests.get(stored.request_id)).action == "a"
    assert proxy.calls["PutItem"] == 3


@pytest.mark.parametrize("output", WRONG_OUTPUTS)
async def test_a_program_that_gives_no_credentials_is_an_outage(
    output: str, local_url: str, program: CredentialProgram
) -> None:
    """Calls and opening raise StoreUnavailable: the next run may print credentials."""
    async with open_stores(endpoint_url=local_url) as stores:
        program.write(WRONG_OUTPUTS[output])
        assert await _unavailable(lambda: stores.requests.get_many(["r"])) == ""
        with pytest.raises(StoreUnavailable):
            async with open_stores(endpoint_url=local_url):
                pass
        program.work()
        assert await _unavailable(lambda: stores.requests.get_many(["r"])) != ""


async def test_a_program_that_hangs_is_ended(
    local_url: str, program: CredentialProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call, and opening, ends within its time limit. No program is left behind."""
    monkeypatch.setattr(credentials, "PROGRAM_SECONDS", 2.0)
    async with open_stores(endpoint_url=local_url, call_timeout=1) as stores:
        program.hang()
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(_raises_unavailable, stores)
        assert time.monotonic() - began < 1.5
        assert len(_children("cat")) == 1
        with pytest.raises(StoreUnavailable, match=r"did not answer within 2 s"):
            async with open_stores(endpoint_url=local_url, call_timeout=1):
                pass
        with anyio.fail_after(PATIENCE):
            while _children("cat"):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        program.work()
        assert await _unavailable(lambda: stores.requests.get_many(["r"])) != ""


async def test_a_slow_program_gives_credentials_to_a_later_call(
    local_url: str, program: CredentialProgram
) -> None:
    """Its run does not end with the call that started it."""
    async with open_stores(endpoint_url=local_url, call_timeout=1) as stores:
        program.hang()
        assert await _unavailable(lambda: stores.requests.get_many(["r"])) == ""
        await anyio.to_thread.run_sync(program.answer)
        with anyio.fail_after(PATIENCE):
            while await _unavailable(lambda: stores.requests.get_many(["r"])) == "":
                pass


async def test_no_program_outlives_its_stores(local_url: str, program: CredentialProgram) -> None:
    """Closing the stores ends a running program."""
    async with open_stores(endpoint_url=local_url, call_timeout=1) as stores:
        program.hang()
        assert await _unavailable(lambda: stores.requests.get_many(["r"])) == ""
        assert len(_children("cat")) == 1
    with anyio.fail_after(PATIENCE):
        while _children("cat"):  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def test_valid_credentials_are_used_while_the_program_hangs(
    real: tuple[Stores, dict[str, str]], program: CredentialProgram
) -> None:
    """Credentials are renewed 15 minutes before they expire.

    Until 10 minutes before, a failed renewal only costs the call a part of its time limit.
    """
    _, settings = real
    program.work(timedelta(minutes=12))
    url, prefix = settings["STREAMER_ENDPOINT_URL"], settings["STREAMER_TABLE_PREFIX"]
    async with open_stores(endpoint_url=url, prefix=prefix, call_timeout=2) as stores:
        program.hang()
        assert await stores.requests.get_many(["r"]) == {}


async def _raises_unavailable(stores: Stores) -> None:
    assert await _unavailable(lambda: stores.requests.get_many(["r"])) == ""


def _children(name: str) -> list[str]:
    """Return the pids of this process's children that run this program."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            program, _, rest = stat.read_text().rpartition(") ")
            state, parent = rest.split()[:2]
            if (program.partition("(")[2], parent) == (name, str(os.getpid())) and state != "Z":
                pids.append(stat.parent.name)
    return pids
