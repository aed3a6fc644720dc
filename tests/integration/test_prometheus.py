"""A real Prometheus scrapes a real worker that is under load."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import pytest
import yaml
from anyio import to_thread

from deploy.dashboard import PROMETHEUS, queries
from integration.fast import FAST
from plugins import plugin
from processes import PATIENCE, Process, page
from streamer_store import AsyncRequest
from streamer_worker.cli.permissions import CALLS
from tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

CODE = """
    import random
    import anyio
    from streamer_worker import RetryLater, Reject, handler

    @handler("report")
    async def report(payload, ctx):
        for step in range(3):
            await ctx.progress(step / 3, "going on")
            await anyio.sleep(random.random() / 5)
            await ctx.checkpoint(step)

    @handler("bill")
    def bill(payload, ctx):
        if payload["n"] % 3 == 0:
            raise Reject("declined", code="DECLINED")
        if payload["n"] % 3 == 1 and ctx.attempt == 1:
            raise ValueError("at first")

    @handler("later")
    async def later(payload, ctx):
        if ctx.attempt == 1:
            raise RetryLater(after=1)
"""
ENTRIES = ("report = load:report", "bill = load:bill", "later = load:later")
# Series that do not exist without faults: these counters appear with their first count.
QUIET = {
    # Push is off.
    "streamer_worker_cache_age_seconds_bucket",
    "streamer_worker_cache_evictions_total",
    "streamer_worker_cache_reads_total",
    "streamer_worker_dynamodb_errors_total",
    "streamer_worker_dynamodb_throttles_total",
    "streamer_worker_loop_failures_total",
    "streamer_worker_stuck_handlers",
    "streamer_worker_pushes_total",
    "streamer_worker_unhandled_requests",
    # Nothing is paused, has a rate limit or runs on a schedule.
    "streamer_worker_paused",
    "streamer_worker_rate_limit_permits_total",
    "streamer_worker_rate_limit_saturated_seconds_total",
    "streamer_worker_schedule_last_miss_timestamp_seconds",
    "streamer_worker_schedule_last_tick_timestamp_seconds",
    "streamer_worker_schedule_missed_ticks_total",
    "streamer_worker_schedule_tick_lateness_seconds_bucket",
    "streamer_worker_schedule_ticks_total",
}
# The load has requests for an action without a handler. They are counted after a minute.
RIGHT = "StreamerActionUnhandled"


class Server:
    """The HTTP API of Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str) -> Any:
        answer = json.loads(page(f"{self._url}/{path}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, text: str) -> list[Any]:
        return list(self.get(f"query?query={quote(text)}")["result"])


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Server]:
    """Run Prometheus with our configuration, one scrape per second, on this target."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    del config["scrape_configs"][0]["dns_sd_configs"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Process(*arguments, executable=tool("prometheus", "prometheus")) as process:
        process.found("Server is ready to receive web requests")
        yield Server(port)


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await anyio.sleep(0.2)


def _expand(query: str) -> str:
    """Return a dashboard's query with Grafana's variables replaced."""
    for name in ("job", "instance", "action"):
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "5s")


async def _load(stores: Stores) -> None:
    """Enqueue some requests every second, until cancelled."""
    number = 0
    while True:
        for action in ("report", "bill", "later", "nobody-has-this"):
            for _ in range(3):
                number += 1
                request = AsyncRequest(action=action, payload={"n": number}, tenant_id=f"t{number}")
                await stores.requests.enqueue(request)
        await anyio.sleep(1)


async def test_it_scrapes_a_worker_under_load(
    real: tuple[Stores, dict[str, str]], tmp_path: Path
) -> None:
    """promtool accepts the page, the rules evaluate, and no alert fires wrongly.

    Every query of the dashboard finds its data.
    """
    promtool = tool("promtool", "prometheus")
    stores, settings = real
    path = plugin(tmp_path, "load", CODE, *ENTRIES)
    # As soon as Prometheus asks, the leader has counted, reaped and looked.
    quick = {"STREAMER_DEPTH_INTERVAL": "1s", "STREAMER_REAPER_INTERVAL": "1s"}
    more = {"PYTHONPATH": str(path)} | quick
    with Process("run", **(FAST | settings | more)) as worker:
        url = str(worker.event("worker_started")["metrics_url"])
        target = url.removeprefix("http://").removesuffix("/metrics")
        with prometheus(tmp_path, target) as server:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_load, stores)

                async def has_rates() -> bool:
                    finished = "streamer_worker_requests_finished_total"
                    outcomes = ("completed", "failed", "retried", "snoozed")
                    query = f"rate({finished}[5s]) > 0"
                    series = await to_thread.run_sync(server.query, query)
                    return {entry["metric"]["outcome"] for entry in series} >= set(outcomes)

                await _until(has_rates, "rates of requests that end")
                await to_thread.run_sync(_check_rules, server)
                tasks.cancel_scope.cancel()
        text = page(url)
    linted = subprocess.run(  # noqa: S603, ASYNC221
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
    named = [line for line in text.splitlines() if "nobody-has-this" in line]
    assert all("unhandled_requests" in line for line in named)
    _check_calls(text)


def _check_calls(text: str) -> None:
    """Check that `check` tries each call that the worker made, and that the policy allows it."""
    pattern = r'units_total{index="(\w*)",operation="(\w+)",table="\w*?_([a-z]+)"}'
    calls = {
        (table, f"{operation} {index}" if operation == "Query" else operation)
        for index, operation, table in re.findall(pattern, text)
    }
    known = {(table.name, call) for table, calls in CALLS.items() for call in calls}
    assert calls <= known
    assert len(calls) >= 5


def _empty(server: Server) -> dict[str, str]:
    """Return the dashboard's queries that find nothing, by panel."""
    return {
        title: query
        for title, query in queries()
        if not server.query(_expand(query)) and not any(name in query for name in QUIET)
    }


def _check_rules(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while empty := _empty(server):  # a rate needs two scrapes
        assert time.monotonic() < deadline, empty
        time.sleep(1)
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["health"] for rule in rules} == {"ok"}
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    assert set(firing) <= {RIGHT}
    (target,) = server.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
