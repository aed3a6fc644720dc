"""Progress and checkpoints under a claim."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contract.request_steps import claimed, reclaimed
from streamer_store import Progress, Stores, ValidationError

pytestmark = pytest.mark.anyio


async def test_progress_changes_only_what_is_given(stores: Stores) -> None:
    """Fraction, message and details each keep their value until a new one is written."""
    claim = await claimed(stores)
    await stores.requests.update_progress(claim, 0.25, "reading", {"rows": 1})
    await stores.requests.update_progress(claim, 0.5)
    await stores.requests.update_progress(claim, message="writing")
    request = await stores.requests.get("r1")
    assert (request.progress, request.progress_message) == (0.5, "writing")
    assert request.progress_details == {"rows": 1}
    assert request.version == claim.version


@pytest.mark.parametrize("value", [{"row": 5}, [1, "a"], "text", 7, None])
async def test_a_checkpoint_outlives_the_attempt(stores: Stores, value: Any) -> None:
    """The next claim has the checkpoint. Progress is written with it or unchanged."""
    claim = await claimed(stores)
    await stores.requests.checkpoint(claim, value)
    await stores.requests.checkpoint(claim, value, progress=Progress(0.5, "half"))
    await stores.requests.retry(claim, timedelta(0), error="broke")
    again = await reclaimed(stores)
    assert again.request.checkpoint == value
    assert (again.request.progress, again.request.progress_message) == (0.5, "half")
    await stores.requests.release(again)
    assert (await reclaimed(stores)).request.checkpoint == value


async def test_completing_removes_the_checkpoint(stores: Stores) -> None:
    """A failed request keeps its checkpoint for a redrive."""
    claim = await claimed(stores)
    await stores.requests.checkpoint(claim, {"row": 5})
    await stores.requests.fail(claim, "broke", "BROKE")
    await stores.requests.redrive("r1")
    claim = await reclaimed(stores)
    assert claim.request.checkpoint == {"row": 5}
    await stores.requests.complete(claim)
    assert (await stores.requests.get("r1")).checkpoint is None


async def test_a_late_copy_of_a_checkpoint_overwrites_nothing(stores: Stores) -> None:
    """The newest write of a claim is kept, whatever the order in which writes arrive.

    Proves FENCE-2.
    """
    claim = await claimed(stores)
    late = replace(claim)
    await stores.requests.checkpoint(claim, 1)
    await stores.requests.update_progress(claim, 0.5)
    await stores.requests.checkpoint(late, "late")
    assert (await stores.requests.get("r1")).checkpoint == 1


@pytest.mark.parametrize("value", [object(), {"x": set()}, "x" * 500_000], ids=["o", "s", "l"])
async def test_a_checkpoint_that_cannot_be_stored_is_refused(stores: Stores, value: Any) -> None:
    """The stored checkpoint is unchanged."""
    claim = await claimed(stores)
    await stores.requests.checkpoint(claim, "before")
    with pytest.raises(ValidationError):
        await stores.requests.checkpoint(claim, value)
    assert (await stores.requests.get("r1")).checkpoint == "before"


@pytest.mark.parametrize("settle", ["complete", "fail", "retry", "release"])
async def test_an_outcome_writes_the_last_progress(stores: Stores, settle: str) -> None:
    """Outcome and progress are one write. The fraction of a completed request is 1."""
    claim = await claimed(stores)
    await stores.requests.update_progress(claim, 0.1, "first", {"rows": 1})
    last = Progress(0.7, "last")
    match settle:
        case "complete":
            await stores.requests.complete(claim, {"ok": True}, progress=last)
        case "fail":
            await stores.requests.fail(claim, "broke", "BROKE", progress=last)
        case "retry":
            await stores.requests.retry(claim, timedelta(0), progress=last)
        case "release":
            await stores.requests.release(claim, progress=last)
    request = await stores.requests.get("r1")
    assert request.progress == (1 if settle == "complete" else 0.7)
    assert (request.progress_message, request.progress_details) == ("last", {"rows": 1})


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), True])
async def test_progress_outside_0_to_1_is_refused(stores: Stores, fraction: float) -> None:
    """Nothing is written."""
    claim = await claimed(stores)
    with pytest.raises(ValidationError, match="progress"):
        await stores.requests.update_progress(claim, fraction)
