"""The writes to a request, the changes that may precede a late copy, and the expected answers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from integration.doubling import DoublingEngine
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    BulkSummary,
    Cancelled,
    Candidate,
    Claim,
    ClaimLost,
    ConcurrentModification,
    EventType,
    RequestNotPending,
    RequestStatus,
    SomeRefused,
    StoreError,
    Stores,
    codec,
)
from streamer_store.clock import new_id
from streamer_store.engine import Engine
from streamer_store.schema import Table
from streamer_store.stores import stores_over
from support import ManualClock

_NUMBERS = itertools.count()
_S = RequestStatus


class Scene:
    """One request, other users of it, and the stores whose write will be doubled."""

    def __init__(self, inner: Engine) -> None:
        number = next(_NUMBERS)
        self.inner = inner
        self.clock = ManualClock()
        self.request_id = f"r{number}"
        # What the doubled stores draw first, where the producer gives no id.
        self.drawn_id = new_id(random.Random(f"mine {number}"))
        self._mine = random.Random(f"mine {number}")
        self.others = stores_over(inner, clock=self.clock, rng=random.Random(f"others {number}"))

    def doubling(
        self, table: Table, meanwhile: Callable[[], Awaitable[None]]
    ) -> tuple[DoublingEngine, Stores]:
        engine = DoublingEngine(self.inner, table, meanwhile)
        return engine, stores_over(engine, clock=self.clock, rng=self._mine)

    async def request(self) -> AsyncRequest:
        return await self.others.requests.get(self.request_id)

    async def seen(self) -> Candidate:
        return codec.candidate(codec.request_item(await self.request()))

    async def claim(self, worker_id: str) -> Claim:
        """Claim as another worker, which reads the request and waits until it is due."""
        self.clock.advance(60)
        return await self.others.requests.claim(await self.seen(), worker_id=worker_id)

    async def rescue(self, stores: Stores) -> RequestStatus:
        return await stores.requests.rescue(await self.seen(), error="gone", code="LOST")


class Meanwhile(StrEnum):
    """A change that another client makes between the two copies of a write."""

    NOTHING = "at once"
    CANCEL = "after a cancel"
    RESCUE = "after a rescue"
    CLAIM = "after the next claim"

    async def happen(self, scene: Scene) -> None:
        """Make the change, by the steps that lead to it from the result of the first copy."""
        if self is Meanwhile.NOTHING:
            return
        status = (await scene.request()).status
        ended = {_S.FAILED} if self is Meanwhile.CANCEL else {_S.FAILED, _S.CANCELLED}
        if status in ended:
            await scene.others.requests.redrive(scene.request_id)
        running = status is _S.PROCESSING
        match self:
            case Meanwhile.CANCEL:
                await scene.others.requests.cancel(scene.request_id)
            case Meanwhile.RESCUE:
                if not running:
                    await scene.claim("another")
                await scene.rescue(scene.others)
            case Meanwhile.CLAIM:
                if running:
                    await scene.rescue(scene.others)
                await scene.claim("another")


StoreCall = Callable[[Stores], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Write:
    """A kind of write.

    `prepare` brings the request into the state that the write needs, and returns the call.
    `answers` has the expected answer for each change: a status, None, or the raised error.
    """

    prepare: Callable[[Scene], Awaitable[StoreCall]]
    answers: dict[Meanwhile, type[StoreError] | RequestStatus | None]


def status_in(answer: Any) -> RequestStatus | None:
    """Return the status that the answer to a write has."""
    match answer:
        case Claim():
            return answer.request.status
        case AsyncRequest():
            return answer.status
        case [AsyncRequest() as first, *_]:
            return first.status
    return answer  # type: ignore[no-any-return]


def _enqueue(
    call: Callable[[Stores, AsyncRequest], Awaitable[Any]], *, drawn: bool
) -> Callable[[Scene], Awaitable[StoreCall]]:
    async def prepare(scene: Scene) -> StoreCall:
        request = AsyncRequest(action="echo", request_id="" if drawn else scene.request_id)
        if drawn:
            scene.request_id = scene.drawn_id
        return lambda stores: call(stores, request)

    return prepare


def _one(stores: Stores, request: AsyncRequest) -> Awaitable[Any]:
    return stores.requests.enqueue(request)


async def _many(stores: Stores, request: AsyncRequest) -> Any:
    return (await _only(stores.requests.enqueue_many([request]))).record


async def _only(operation: Awaitable[BulkSummary[Any]]) -> BulkResult[Any]:
    """Return the result of a bulk operation on one item, or raise its error."""
    try:
        (result,) = (await operation).results
    except SomeRefused as refused:
        (result,) = refused.summary.results
        assert result.error is not None
        raise result.error from refused
    return result


async def _status_after(operation: Awaitable[BulkSummary[Any]], stores: Stores) -> RequestStatus:
    """Return the status of the request, which the result of a change does not have."""
    result = await _only(operation)
    return (await stores.requests.get(result.key)).status


def _all(stores: Stores, request: AsyncRequest) -> Awaitable[Any]:
    other = AsyncRequest(action="echo", request_id=f"{request.request_id or 'drawn'} 2")
    return stores.requests.enqueue_all([request, other])


def _subscribed(stores: Stores, request: AsyncRequest) -> Awaitable[Any]:
    return stores.requests.enqueue_with_subscriptions(
        request, {"c1": EventType}, require_connection=False
    )


async def _claim(scene: Scene) -> StoreCall:
    request = AsyncRequest(action="echo", request_id=scene.request_id)
    stored = await scene.others.requests.enqueue(request)
    candidate = codec.candidate(codec.request_item(stored))
    return lambda stores: stores.requests.claim(candidate, worker_id="mine")


def _held(
    call: Callable[[Stores, Claim], Awaitable[Any]],
) -> Callable[[Scene], Awaitable[StoreCall]]:
    async def prepare(scene: Scene) -> StoreCall:
        claim = await (await _claim(scene))(scene.others)
        return lambda stores: call(stores, claim)

    return prepare


def _rescue(*, last: bool) -> Callable[[Scene], Awaitable[StoreCall]]:
    async def prepare(scene: Scene) -> StoreCall:
        request = AsyncRequest(
            action="echo", request_id=scene.request_id, max_retries=0 if last else 9
        )
        await scene.others.requests.enqueue(request)
        await scene.claim("mine")
        return scene.rescue

    return prepare


def _operate(
    start: RequestStatus, call: Callable[[Stores, str], Awaitable[Any]]
) -> Callable[[Scene], Awaitable[StoreCall]]:
    async def prepare(scene: Scene) -> StoreCall:
        claiming = await _claim(scene)
        if start is not _S.PENDING:
            claim = await claiming(scene.others)
            if start is _S.FAILED:
                await scene.others.requests.fail(claim, "bad", "BAD")
        return lambda stores: call(stores, scene.request_id)

    return prepare


def _answers(
    nothing: RequestStatus | None,
    cancel: type[StoreError] | RequestStatus,
    rescue: type[StoreError] | RequestStatus,
    claim: type[StoreError] | RequestStatus,
) -> dict[Meanwhile, type[StoreError] | RequestStatus | None]:
    return dict(zip(Meanwhile, (nothing, cancel, rescue, claim), strict=True))


_ALWAYS_STORED = _answers(_S.PENDING, _S.PENDING, _S.PENDING, _S.PENDING)
# Once the Version has moved on, our own request and another client's cannot be distinguished.
_TAKEN = _answers(_S.PENDING, AlreadyExists, AlreadyExists, AlreadyExists)
_HOLDER = _answers(None, Cancelled, ClaimLost, ClaimLost)
_REDRIVEN = _answers(_S.PENDING, _S.CANCELLED, RequestNotPending, RequestNotPending)
# Nothing leads away from COMPLETED: nothing can happen between the copies.
_COMPLETED: dict[Meanwhile, type[StoreError] | RequestStatus | None] = {Meanwhile.NOTHING: None}

WRITES: Final[dict[str, Write]] = {
    "enqueue, id given": Write(prepare=_enqueue(_one, drawn=False), answers=_TAKEN),
    "enqueue, id drawn": Write(prepare=_enqueue(_one, drawn=True), answers=_ALWAYS_STORED),
    "enqueue_many, id given": Write(prepare=_enqueue(_many, drawn=False), answers=_TAKEN),
    "enqueue_many, id drawn": Write(prepare=_enqueue(_many, drawn=True), answers=_ALWAYS_STORED),
    # The client's own copy of a transaction has its token, and no effect. This one has another.
    # The second request of it is unchanged, and shows that the transaction took effect.
    "enqueue_all": Write(prepare=_enqueue(_all, drawn=False), answers=_ALWAYS_STORED),
    "enqueue_with_subscriptions": Write(prepare=_enqueue(_subscribed, drawn=False), answers=_TAKEN),
    "claim": Write(
        prepare=_claim,
        answers=_answers(
            _S.PROCESSING, RequestNotPending, ConcurrentModification, RequestNotPending
        ),
    ),
    "update_progress": Write(
        prepare=_held(lambda stores, claim: stores.requests.update_progress(claim, 0.5, "half")),
        answers=_HOLDER,
    ),
    "checkpoint": Write(
        prepare=_held(lambda stores, claim: stores.requests.checkpoint(claim, {"row": 5})),
        answers=_HOLDER,
    ),
    "complete": Write(
        prepare=_held(lambda stores, claim: stores.requests.complete(claim, {"ok": True})),
        answers=_COMPLETED,
    ),
    "fail": Write(
        prepare=_held(lambda stores, claim: stores.requests.fail(claim, "bad", "BAD")),
        answers=_HOLDER,
    ),
    "retry": Write(
        prepare=_held(
            lambda stores, claim: stores.requests.retry(claim, timedelta(seconds=1), error="bad")
        ),
        answers=_HOLDER,
    ),
    "release": Write(
        prepare=_held(lambda stores, claim: stores.requests.release(claim)), answers=_HOLDER
    ),
    "rescue": Write(
        prepare=_rescue(last=False),
        answers=_answers(
            _S.RETRYING, ConcurrentModification, ConcurrentModification, ConcurrentModification
        ),
    ),
    "rescue, the last": Write(
        prepare=_rescue(last=True),
        answers=_answers(
            _S.FAILED, ConcurrentModification, ConcurrentModification, ConcurrentModification
        ),
    ),
    # Cancelling names a request, not a Version: the copy is refused, the store looks again and
    # cancels what it finds. Somebody redrove the request meanwhile, or it would be CANCELLED.
    "cancel, running": Write(
        prepare=_operate(_S.PROCESSING, lambda stores, key: stores.requests.cancel(key)),
        answers=_answers(_S.CANCELLED, _S.CANCELLED, _S.CANCELLED, _S.CANCELLED),
    ),
    "cancel, waiting": Write(
        prepare=_operate(_S.PENDING, lambda stores, key: stores.requests.cancel(key)),
        answers=_answers(_S.CANCELLED, _S.CANCELLED, _S.CANCELLED, _S.CANCELLED),
    ),
    "cancel_many": Write(
        prepare=_operate(
            _S.PROCESSING,
            lambda stores, key: _status_after(stores.requests.cancel_many([key]), stores),
        ),
        answers=_answers(_S.CANCELLED, _S.CANCELLED, _S.CANCELLED, _S.CANCELLED),
    ),
    "redrive_many": Write(
        prepare=_operate(
            _S.FAILED,
            lambda stores, key: _status_after(stores.requests.redrive_many([key]), stores),
        ),
        answers=_REDRIVEN,
    ),
    "update_status_many": Write(
        prepare=_operate(
            _S.PENDING,
            lambda stores, key: _status_after(
                stores.requests.update_status_many([key], _S.CANCELLED, "stop"), stores
            ),
        ),
        answers=_answers(_S.CANCELLED, _S.CANCELLED, _S.CANCELLED, RequestNotPending),
    ),
    "redrive": Write(
        prepare=_operate(_S.FAILED, lambda stores, key: stores.requests.redrive(key)),
        answers=_REDRIVEN,
    ),
    "update_status, cancelled": Write(
        prepare=_operate(
            _S.PENDING,
            lambda stores, key: stores.requests.update_status(key, _S.CANCELLED, "stop"),
        ),
        answers=_answers(_S.CANCELLED, _S.CANCELLED, _S.CANCELLED, RequestNotPending),
    ),
    "update_status, pending": Write(
        prepare=_operate(
            _S.FAILED, lambda stores, key: stores.requests.update_status(key, _S.PENDING, "again")
        ),
        answers=_REDRIVEN,
    ),
}
