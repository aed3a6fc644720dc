"""Drain: requests per second, and CPU per request, of a full queue of no-op requests."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio

from bench import saq_redis
from bench.children import Child, ChildFailedError, child
from bench.cpus import move, spare_cpu
from bench.database import Tables, fresh_tables
from bench.gateway import IDS, gateway
from bench.payloads import payload
from bench.profiling import profiled, worker_command
from bench.results import RATIO, Figure, Part, say
from bench.workers import worker_environment

PAYLOAD_BYTES: Final = 300
KINDS: Final = ("ours", "ours-push", "single", "batched", "saq")
"""`ours-push`: push is on, and nobody is connected. `single`, `batched`: bench/bare.py."""
CONNECTED: Final = "ours-connected"
"""Push is on, and each request has one of a hundred connections, which gets its outcome."""
_WARM_UP: Final = 0.1
"""The share of the requests after which measuring begins: the process has started by then."""
_TAIL: Final = 64
"""Requests at the end that are not measured, because the last ones run with less concurrency."""
_REQUESTS_PER_SECOND: Final = 20.0
"""The slowest drain that is waited for."""
_WARM_UP_REQUESTS: Final = 700


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain. `rate`: requests per second. `cpu`: milliseconds of the process per request."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to drain, and how often.

    `profile`: where to write a profile of the first `ours`. `cpu`: the CPU that the consumer has
    to itself. None: it shares all of them.
    """

    requests: int
    rounds: int
    only: Sequence[str] = KINDS
    profile: Path | None = None
    cpu: int | None = None


async def warm_up(url: str, folder: Path) -> None:
    """Drain queues until DynamoDB Local, a program in Java, runs at its usual speed."""
    for kind in ("single", "batched"):
        await _drain(kind, url, folder, Plan(requests=_WARM_UP_REQUESTS, rounds=1))
    say("DynamoDB Local is warmed up")


async def measure(url: str, folder: Path, plan: Plan) -> Part:
    """Drain the queue `rounds` times with each kind of consumer, in alternating order."""
    notes = []
    kinds = [kind for kind in (*KINDS, CONNECTED) if kind in plan.only]
    if "saq" in kinds and (missing := saq_redis.missing()):
        notes.append(f"saq is left out: {missing}")
        kinds.remove("saq")
    found: dict[str, list[Drained]] = {kind: [] for kind in kinds}
    with spare_cpu() as cpu:
        plan = replace(plan, cpu=cpu)
        for number in range(plan.rounds):
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                drained = await _drain(kind, url, folder, plan)
                plan = replace(plan, profile=None) if kind == "ours" else plan
                figures = f"{drained.rate:.0f} requests/s, {drained.cpu:.2f} ms of CPU each"
                say(f"drain {number + 1}/{plan.rounds} {kind}: {figures}")
                found[kind].append(drained)
    name = "push" if CONNECTED in found else "drain"
    return Part(name=name, figures=_figures(found), notes=notes)


async def _drain(kind: str, url: str, folder: Path, plan: Plan) -> Drained:
    total = plan.requests
    if kind == "saq":
        async with saq_redis.saq_worker(folder, total) as consumer:
            return await _watch(consumer, plan)
    profile = plan.profile if kind == "ours" else None
    async with fresh_tables(url) as tables:
        connected = IDS if kind == CONNECTED else ()
        await tables.enqueue(
            total, action="noop", payload=payload(PAYLOAD_BYTES), connections=connected
        )
        async with _consumer(kind, folder, tables, total, profile) as consumer:
            with profiled(consumer, profile):
                drained = await _watch(consumer, plan)
                await _require_completed(tables, total)
            return drained


@asynccontextmanager
async def _consumer(
    kind: str, folder: Path, tables: Tables, total: int, profile: Path | None
) -> AsyncIterator[Child]:
    if kind in {"single", "batched"}:
        arguments = [sys.executable, "-m", "bench.bare", kind, tables.url, tables.prefix]
        with child([*arguments, str(total)], folder=folder, environment={}) as loop:
            yield loop
    elif kind == CONNECTED:
        with gateway(folder) as server:
            await tables.put_all("connections", server.connections())
            environment = worker_environment(folder, tables, **server.settings)
            environment |= server.environment
            with child(worker_command(profile), folder=folder, environment=environment) as worker:
                yield worker
    else:
        push = "apigateway" if kind == "ours-push" else "off"
        environment = worker_environment(folder, tables, push=push)
        with child(worker_command(profile), folder=folder, environment=environment) as worker:
            yield worker


async def _watch(consumer: Child, plan: Plan) -> Drained:
    """Measure from the first tenth of the requests to the last ones."""
    total = plan.requests
    limit = 60 + total / _REQUESTS_PER_SECOND
    await consumer.wait_for_count(1, within=limit)  # its threads have started
    if plan.cpu is not None:
        move(consumer.pid, {plan.cpu})
    await consumer.wait_for_count(round(total * _WARM_UP), within=limit)
    first, cpu, began = consumer.counter.value, consumer.cpu(), time.perf_counter()
    await consumer.wait_for_count(total - min(_TAIL, total // 10), within=limit)
    last, cpu_after, ended = consumer.counter.value, consumer.cpu(), time.perf_counter()
    await consumer.wait_for_count(total, within=limit)
    number = last - first
    return Drained(rate=number / (ended - began), cpu=(cpu_after - cpu) * 1000 / number)


async def _require_completed(tables: Tables, total: int) -> None:
    """Wait until all requests have their outcome, so that no write is left out."""
    completed = 0
    with anyio.move_on_after(30):
        while completed != total:
            completed = await tables.count("COMPLETED")
            await anyio.sleep(0.1)
    if completed != total:
        raise ChildFailedError(f"{completed} of {total} requests are COMPLETED")


def _figures(found: Mapping[str, Sequence[Drained]]) -> list[Figure]:
    figures = [
        *_ratios("CPU per request", found, "cpu", batched=1.8, saq=0.8),
        *_ratios("requests/s", found, "rate", batched=0.7),
    ]
    if CONNECTED in found:
        pairs = zip(found[CONNECTED], found["ours"], strict=True)
        figures.append(
            Figure(
                name=f"CPU per request, {CONNECTED} / ours",
                unit=RATIO,
                samples=[pushed.cpu / silent.cpu for pushed, silent in pairs],
                at_most=1.3,
            )
        )
    for kind, drains in found.items():
        figures += [
            Figure(name=kind, unit="requests/s", samples=[drained.rate for drained in drains]),
            Figure(name=kind, unit="CPU ms/request", samples=[drained.cpu for drained in drains]),
        ]
    return figures


def _ratios(
    title: str, found: Mapping[str, Sequence[Drained]], attribute: str, **goals: float
) -> list[Figure]:
    """Return the ratios of our figures to those of each other consumer, round by round."""
    figures = []
    goal_name = "at_most" if attribute == "cpu" else "at_least"
    for own in ("ours", "ours-push"):
        for other in ("batched", "single", "saq"):
            if own in found and other in found:
                pairs = zip(found[own], found[other], strict=True)
                goal = {goal_name: goals[other]} if own == "ours" and other in goals else {}
                figures.append(
                    Figure(
                        name=f"{title}, {own} / {other}",
                        unit=RATIO,
                        samples=[getattr(a, attribute) / getattr(b, attribute) for a, b in pairs],
                        **goal,
                    )
                )
    return figures
