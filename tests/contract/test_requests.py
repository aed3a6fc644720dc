from __future__ import annotations

import pytest

from streamer_store import AlreadyExists, AsyncRequest, RequestStatus, Stores

pytestmark = pytest.mark.anyio


async def test_a_request_goes_through_its_life(stores: Stores) -> None:
    """Enqueued, found waiting, claimed, advanced and completed."""
    stored = await stores.requests.enqueue(
        AsyncRequest(action="echo", connection_id="c1", payload={"n": 1.5, "deep": [{"a": None}]})
    )
    page = await stores.requests.waiting(RequestStatus.PENDING, limit=10)
    assert [each.request_id for each in page.candidates] == [stored.request_id]
    claim = await stores.requests.claim(page.candidates[0], worker_id="w1")
    assert claim.request.payload == {"n": 1.5, "deep": [{"a": None}]}
    assert claim.request.status is RequestStatus.PROCESSING
    await stores.requests.update_progress(claim, 0.5, "half", {"rows": 3})
    await stores.requests.complete(claim, {"ok": True})
    done = await stores.requests.get(stored.request_id)
    assert done.status is RequestStatus.COMPLETED
    assert done.result == {"ok": True}
    assert done.progress == 1
    assert done.progress_message == "half"
    assert done.worker_id == "w1"


async def test_enqueue_never_overwrites(stores: Stores) -> None:
    """An id that is taken is refused, and the first request stays."""
    await stores.requests.enqueue(AsyncRequest(action="one", request_id="r1"))
    with pytest.raises(AlreadyExists):
        await stores.requests.enqueue(AsyncRequest(action="two", request_id="r1"))
    assert (await stores.requests.get("r1")).action == "one"
