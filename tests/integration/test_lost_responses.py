"""A write whose answer was lost is sent again, and the second copy may arrive late."""

from __future__ import annotations

import pytest

from integration.lost_writes import WRITES, Meanwhile, Scene, status_in
from streamer_store import (
    AsyncRequest,
    BulkResult,
    Claim,
    RequestNotPending,
    RequestStatus,
    StoreError,
    codec,
)
from streamer_store.engine import Engine
from streamer_store.schema import REQUESTS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


CASES = [
    pytest.param(kind, meanwhile, id=f"{kind}, {meanwhile}")
    for kind, write in WRITES.items()
    for meanwhile in write.answers
]


@pytest.mark.parametrize(("kind", "meanwhile"), CASES)
async def test_a_late_copy_changes_nothing(inner: Engine, kind: str, meanwhile: Meanwhile) -> None:
    """The second copy is refused. The caller gets its own success, or the later change.

    Proves VERSION-2.
    """
    scene = Scene(inner)
    call = await WRITES[kind].prepare(scene)
    engine, stores = scene.doubling(REQUESTS, lambda: meanwhile.happen(scene))
    expected = WRITES[kind].answers[meanwhile]
    if isinstance(expected, type):
        with pytest.raises(StoreError) as raised:
            await call(stores)
        assert type(raised.value) is expected
        assert scene.request_id in raised.value.key
    else:
        assert status_in(await call(stores)) is expected
    assert engine.doubled
    assert engine.before == engine.after


async def test_a_claim_whose_answer_was_lost_is_complete(inner: Engine) -> None:
    """The request can be settled with the claim that the second copy returns."""
    scene = Scene(inner)
    call = await WRITES["claim"].prepare(scene)
    _, stores = scene.doubling(REQUESTS, lambda: Meanwhile.NOTHING.happen(scene))
    claim = await call(stores)
    assert isinstance(claim, Claim)
    assert claim.request == await scene.request()
    await stores.requests.complete(claim)
    assert (await scene.request()).status is RequestStatus.COMPLETED


async def test_late_progress_never_overwrites_newer_progress(inner: Engine) -> None:
    """A copy that arrives after the claim's next progress is dropped without an error.

    Proves FENCE-2.
    """
    scene = Scene(inner)
    await (await WRITES["claim"].prepare(scene))(scene.others)
    request = await scene.request()
    claim = Claim(request=request, version=request.version or "")
    engine, stores = scene.doubling(
        REQUESTS, lambda: scene.others.requests.update_progress(claim, 0.9)
    )
    await stores.requests.update_progress(claim, 0.1)
    assert engine.before == engine.after
    assert (await scene.request()).progress == 0.9


async def test_a_cancelled_redrive_stays_cancelled(inner: Engine) -> None:
    """A second copy of a redrive does not undo the cancel that came after the first."""
    scene = Scene(inner)
    call = await WRITES["redrive"].prepare(scene)
    _, stores = scene.doubling(REQUESTS, lambda: Meanwhile.CANCEL.happen(scene))
    await call(stores)
    assert (await scene.request()).status is RequestStatus.CANCELLED


async def test_enqueue_many_names_only_ids_that_were_taken_before(inner: Engine) -> None:
    """If the first write of a batch is doubled, every request is stored once."""
    scene = Scene(inner)
    engine, stores = scene.doubling(REQUESTS, lambda: Meanwhile.NOTHING.happen(scene))
    requests = [AsyncRequest(action="echo", request_id=scene.request_id)]
    requests += [AsyncRequest(action="echo", payload={"n": n}) for n in range(30)]
    stored = (await stores.requests.enqueue_many(requests)).records
    assert engine.doubled
    read_back = await scene.others.requests.get_many(request.request_id for request in stored)
    assert list(read_back.values()) == stored
    assert codec.request_item(stored[0]) == engine.after[0]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after the id was used again"])
async def test_a_late_copy_of_a_delete_deletes_nothing_new(inner: Engine, again: bool) -> None:  # noqa: FBT001
    """The request is deleted. One that a producer stored under its id since then is kept."""
    scene = Scene(inner)
    request = AsyncRequest(action="echo", request_id=scene.request_id)
    await scene.others.requests.enqueue(request)
    await scene.others.requests.cancel(scene.request_id)

    async def meanwhile() -> None:
        if again:
            await scene.others.requests.enqueue(request)

    engine, stores = scene.doubling(REQUESTS, meanwhile)
    results: list[BulkResult[None]] = []
    await stores.requests.delete_many(
        [scene.request_id], statuses=[RequestStatus.CANCELLED], on_result=results.append
    )
    assert engine.doubled
    assert [type(result.error) for result in results] == [
        RequestNotPending if again else type(None)
    ]
    found = await scene.others.requests.get_many([scene.request_id])
    assert [each.status for each in found.values()] == ([RequestStatus.PENDING] if again else [])
