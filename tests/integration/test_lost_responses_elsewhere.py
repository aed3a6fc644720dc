"""Late copies of the writes to connections, subscriptions and workers, and of deletes.

No cancel, rescue or claim writes to these items. Not tested, because the write is unconditional
on purpose and the last one wins:

- `save` after a ping, `subscribe` after an unsubscribe, a delete after the same id was written;
- `register` after a remove: the new row has no heartbeat and is soon declared dead;
- `request_cancel` after the heartbeat that handled it: the worker handles the Version again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from integration.lost_writes import Scene
from streamer_store import AsyncRequest, NotFound, StaleSweep, StoreError, Stores, WorkerRow
from streamer_store.engine import Engine
from streamer_store.schema import CONNECTIONS, REQUESTS, SUBSCRIPTIONS, WORKERS, Table
from support import START, connection

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


Step = Callable[[Stores, str], Awaitable[Any]]
STALE = START + timedelta(hours=2)


async def nothing(_: Stores, __: str) -> None:
    return


async def register(stores: Stores, key: str) -> None:
    # Python and DynamoDB order these names differently.
    actions = frozenset({"echo", "\N{GRINNING FACE}", "\N{REPLACEMENT CHARACTER}", "a"})
    await stores.workers.register(WorkerRow(worker_id=key, started_at=START, actions=actions))


async def registered_with_mail(stores: Stores, key: str) -> None:
    await register(stores, key)
    await stores.workers.request_cancel(key, "v1")
    await stores.workers.request_drain(key)


async def beat(stores: Stores, key: str) -> WorkerRow:
    return await stores.workers.beat(
        key, in_flight=1, draining=False, sweeps=0, handled=["v1"], drain_handled=True
    )


async def come_back(stores: Stores, key: str) -> None:
    await register(stores, key)
    await beat(stores, key)


async def save(stores: Stores, key: str, last_ping: timedelta = timedelta()) -> None:
    await stores.connections.save(connection(key, connected_at=START, last_ping=START + last_ping))


async def subscribe(stores: Stores, key: str) -> None:
    await stores.subscriptions.subscribe(key, "r")


async def save_and_subscribe(stores: Stores, key: str) -> None:
    await save(stores, key)
    await subscribe(stores, key)


async def reconnect(stores: Stores, key: str) -> None:
    await save(stores, key, last_ping=timedelta(hours=3))


async def sweep(stores: Stores, _: str) -> StaleSweep:
    return await stores.connections.sweep_stale(STALE)


async def enqueue(stores: Stores, key: str) -> None:
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id=key))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A write, the items before it, the change between its copies, and the expected answer."""

    table: Table
    call: Step
    before: Step = nothing
    meanwhile: Step = nothing
    answer: Any = None


CASES = {
    "register": Case(table=WORKERS, call=register),
    "register, drained since": Case(
        table=WORKERS,
        call=register,
        meanwhile=lambda stores, key: stores.workers.request_drain(key),
    ),
    "beat, removed since": Case(
        table=WORKERS,
        before=register,
        call=beat,
        meanwhile=lambda stores, key: stores.workers.remove(key),
        answer=NotFound,
    ),
    "request_cancel": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.request_cancel(key, "v1"),
        answer=True,
    ),
    "request_cancel, removed since": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.request_cancel(key, "v1"),
        meanwhile=lambda stores, key: stores.workers.remove(key),
        answer=False,
    ),
    "request_drain": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.request_drain(key),
        answer=True,
    ),
    "request_drain, removed since": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.request_drain(key),
        meanwhile=lambda stores, key: stores.workers.remove(key),
        answer=False,
    ),
    "remove": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.remove(key),
        answer=True,
    ),
    "remove, as seen": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.remove(key, beat=0),
        answer=True,
    ),
    "remove, as seen, registered since": Case(
        table=WORKERS,
        before=register,
        call=lambda stores, key: stores.workers.remove(key, beat=0),
        meanwhile=come_back,
        answer=False,
    ),
    "save": Case(table=CONNECTIONS, call=save),
    "update_last_ping": Case(
        table=CONNECTIONS,
        before=save,
        call=lambda stores, key: stores.connections.update_last_ping(key),
    ),
    "update_last_ping, deleted since": Case(
        table=CONNECTIONS,
        before=save,
        call=lambda stores, key: stores.connections.update_last_ping(key),
        meanwhile=lambda stores, key: stores.connections.delete(key),
        answer=NotFound,
    ),
    "delete a connection": Case(
        table=CONNECTIONS,
        before=save,
        call=lambda stores, key: stores.connections.delete(key),
    ),
    "sweep_stale": Case(
        table=CONNECTIONS, before=save, call=sweep, answer=StaleSweep(found=1, deleted=1)
    ),
    "sweep_stale, connected again": Case(
        table=CONNECTIONS,
        before=save,
        call=sweep,
        meanwhile=reconnect,
        answer=StaleSweep(found=1, kept=1),
    ),
    "delete subscriptions, as sweep_stale does": Case(
        table=SUBSCRIPTIONS,
        before=save_and_subscribe,
        call=sweep,
        answer=StaleSweep(found=1, deleted=1),
    ),
    "subscribe": Case(table=SUBSCRIPTIONS, call=subscribe),
    "unsubscribe": Case(
        table=SUBSCRIPTIONS,
        before=subscribe,
        call=lambda stores, key: stores.subscriptions.unsubscribe(key, "r"),
    ),
    "delete_by_connection": Case(
        table=SUBSCRIPTIONS,
        before=subscribe,
        call=lambda stores, key: stores.subscriptions.delete_by_connection(key),
        answer=1,
    ),
    "delete a request": Case(
        table=REQUESTS, before=enqueue, call=lambda stores, key: stores.requests.delete(key)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_late_copy_changes_nothing(inner: Engine, case: Case) -> None:
    """The second copy changes nothing. The caller gets success, or the change that came between."""
    scene = Scene(inner)
    await case.before(scene.others, scene.request_id)
    engine, stores = scene.doubling(
        case.table, lambda: case.meanwhile(scene.others, scene.request_id)
    )
    if isinstance(case.answer, type):
        with pytest.raises(StoreError) as raised:
            await case.call(stores, scene.request_id)
        assert type(raised.value) is case.answer
    else:
        assert await case.call(stores, scene.request_id) == case.answer
    assert engine.doubled
    assert engine.before == engine.after


async def test_a_late_heartbeat_keeps_new_mail(inner: Engine) -> None:
    """Both copies add 1 to Beat, which is harmless. Mail that came between them is not removed."""
    scene = Scene(inner)
    await registered_with_mail(scene.others, scene.request_id)

    async def mail() -> None:
        await scene.others.workers.request_cancel(scene.request_id, "v2")

    _, stores = scene.doubling(WORKERS, mail)
    row = await beat(stores, scene.request_id)
    assert (row.beat, row.cancel, row.drain) == (2, frozenset({"v2"}), False)
    assert await scene.others.workers.list() == [row]
