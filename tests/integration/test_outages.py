"""Network faults between the workers and DynamoDB Local."""

from __future__ import annotations

import json
import time
import urllib.error
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from integration.fast import FAST, LEASE, scaled
from integration.fast import ended as ended_of
from integration.proxy import (
    Fault,
    Proxy,
    answering,
    delaying,
    losing_answers,
    losing_every,
    passing,
    resetting,
    stalling,
)
from processes import PATIENCE, Process, page
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

FAULTS: Final[dict[str, Fault]] = {
    "resets": resetting,
    "stalls": stalling,
    "answers 500": answering(500, "InternalServerError"),
    "throttles": answering(400, "ProvisionedThroughputExceededException"),
    "refuses expired credentials": answering(400, "ExpiredTokenException"),
    "loses all answers": losing_answers,
}
# Events that say that a worker was declared dead.
DEATHS: Final = ("worker_fenced", "dead_worker_removed", "request_rescued")


@pytest.fixture
def start(
    real: tuple[Stores, dict[str, str]],
    plugins: str,
    proxy: Proxy,
    request: pytest.FixtureRequest,
) -> Callable[..., Process]:
    """Yield a function that starts a worker behind the proxy."""

    def begin(**settings: str) -> Process:
        # The proxy drops only answers that the worker itself needs.
        alone = {"STREAMER_PUSH": "off", "STREAMER_ENDPOINT_URL": proxy.url}
        through = {"PYTHONPATH": plugins} | alone
        worker = Process("run", **(FAST | real[1] | through | settings))
        request.addfinalizer(lambda: worker.__exit__(None, None, None))
        return worker

    return begin


class Effects:
    """The effects of a test's handlers: one line for each start."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "effects"

    def request(self, seconds: float, **fields: Any) -> AsyncRequest:
        payload = {"file": str(self._file), "seconds": seconds}
        return AsyncRequest(action="work", payload=payload, **fields)

    def lines(self) -> list[str]:
        return self._file.read_text().split() if self._file.exists() else []


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path)


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await anyio.sleep(0.05)


def _answers(worker: Process, name: str) -> bool:
    url = str(worker.event("worker_started")["metrics_url"]).replace("metrics", name)
    try:
        return bool(json.loads(page(url)))
    except urllib.error.HTTPError:
        return False


def _lines_of(workers: list[Process], *names: str) -> list[str]:
    lines = [line for worker in workers for line in worker.lines]
    return [line for line in lines if any(f'"event": "{name}"' in line for name in names)]


def _check_costs(workers: list[Process], effects: Effects, ended: list[AsyncRequest]) -> None:
    """Check that each request completed in one run.

    No attempt was used, and no worker was declared dead.
    """
    assert {(request.status, request.retry_count) for request in ended} == {
        (RequestStatus.COMPLETED, 0)
    }
    assert sorted(effects.lines()) == sorted(request.request_id for request in ended)
    assert _lines_of(workers, *DEATHS) == []


async def _outlast(
    stores: Stores,
    workers: list[Process],
    effects: Effects,
    *,
    begin: Callable[[], None],
    end: Callable[[], None],
) -> list[AsyncRequest]:
    """Let running handlers live through an outage of two leases; return the requests."""
    for worker in workers:
        worker.event("worker_started")
    running = (
        await stores.requests.enqueue_many([effects.request(LEASE) for _ in range(6)])
    ).records
    await _until(lambda: len(effects.lines()) == len(running), "all handlers run")
    begin()
    began = time.monotonic()
    waiting = (
        await stores.requests.enqueue_many([effects.request(0.05) for _ in range(6)])
    ).records
    for worker in workers:
        await _until(lambda each=worker: not _answers(each, "readyz"), "unready")  # type: ignore[misc]
    await anyio.sleep(began + 2 * LEASE - time.monotonic())
    assert all(_answers(worker, "healthz") for worker in workers)
    end()
    ended = await ended_of(stores, *(request.request_id for request in running + waiting))
    for worker in workers:
        await _until(lambda each=worker: _answers(each, "readyz"), "ready again")  # type: ignore[misc]
    assert {request.status for request in ended} == {RequestStatus.COMPLETED}
    return ended


@pytest.mark.parametrize("name", FAULTS)
async def test_an_outage_longer_than_the_lease_costs_nothing(
    name: str,
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    start: Callable[..., Process],
    effects: Effects,
) -> None:
    """The workers are unready and alive. Handlers continue, and their results are stored.

    Claims whose answers were lost are released.
    """
    stores, _ = real
    workers = [start(), start()]

    def begin() -> None:
        proxy.fault = FAULTS[name]

    def end() -> None:
        proxy.fault = passing

    ended = await _outlast(stores, workers, effects, begin=begin, end=end)
    _check_costs(workers, effects, ended)


async def test_a_refused_connection_costs_nothing(
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    start: Callable[..., Process],
    effects: Effects,
) -> None:
    """The endpoint of DynamoDB refuses connections for two leases."""
    stores, _ = real
    workers = [start(), start()]
    ended = await _outlast(stores, workers, effects, begin=proxy.refuse, end=proxy.listen)
    _check_costs(workers, effects, ended)


async def test_single_lost_answers_cost_nothing(
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    start: Callable[..., Process],
    effects: Effects,
) -> None:
    """Every fourth answer is lost. Each handler runs once, and no attempt is used."""
    stores, _ = real
    proxy.fault = losing_every(4)
    # A heartbeat has time for a second try, also on a machine with other work.
    calm = {"STREAMER_PRESENCE_HEARTBEAT": scaled(2), "STREAMER_PRESENCE_LEASE": scaled(10)}
    workers = [start(**calm), start(**calm)]
    stored = (
        await stores.requests.enqueue_many([effects.request(0.05) for _ in range(100)])
    ).records
    ended = await ended_of(stores, *(request.request_id for request in stored))
    _check_costs(workers, effects, ended)


async def test_a_slow_table_is_not_an_outage(
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    start: Callable[..., Process],
    effects: Effects,
) -> None:
    """Each call takes 200 ms. The workers are ready, and each handler runs once."""
    stores, _ = real
    proxy.fault = delaying(0.2)
    workers = [start(), start()]
    stored = (
        await stores.requests.enqueue_many([effects.request(0.05) for _ in range(60)])
    ).records
    ended = await ended_of(stores, *(request.request_id for request in stored))
    _check_costs(workers, effects, ended)
    for worker in workers:
        await _until(lambda each=worker: _answers(each, "readyz"), "ready")  # type: ignore[misc]
