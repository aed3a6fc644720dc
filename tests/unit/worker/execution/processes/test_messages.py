"""What is passed between worker and process: values, exceptions, progress and checkpoints."""

from __future__ import annotations

import pickle
import time
import traceback
from pathlib import Path

import anyio
import pytest

from streamer_store import ClaimLost, ItemTooLarge, RequestNotPending, RequestStatus
from streamer_store import ValidationError as StoreValidationError
from streamer_worker import Reject, RetryLater
from streamer_worker.execution.processes.protocol import ResultInvalid
from streamer_worker.handlers.registry import not_importable
from unit.worker.execution.processes import functions
from unit.worker.execution.processes.pool_bench import (
    Bench,
    anyio_backend,
    bench,
    shared_pool,
    warm,
)
from unit.worker.faulty_engine import PATIENCE

__all__ = ["anyio_backend", "bench", "shared_pool", "warm"]
pytestmark = pytest.mark.anyio


async def test_payload_context_and_result_are_passed(warm: Bench) -> None:
    """In both directions, complete."""
    assert await warm.run(functions.double, {"n": [1, None]}) == [
        {"n": [1, None]},
        "r1",
        2,
        {"trace": 1},
        [5],
    ]


async def test_a_decorated_function_is_found(warm: Bench) -> None:
    """The name in the module is that of a Handler."""
    assert await warm.run(functions.decorated.function, {"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("which", "kind", "text"),
    [
        ("value", ValueError, "no rows"),
        ("exit", SystemExit, "3"),
        ("odd", RuntimeError, "Odd: a b"),
        ("local", RuntimeError, "Local: gone"),
    ],
)
async def test_an_exception_is_passed_with_its_traceback(
    warm: Bench, which: str, kind: type[BaseException], text: str
) -> None:
    """One that cannot be pickled is passed as text, and the process continues."""
    before = await warm.run(functions.pid)
    with pytest.raises(kind, match=text) as caught:
        await warm.run(functions.raises, which)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in raises" in shown
    assert await warm.run(functions.pid) == before


async def test_reject_and_retry_later_are_passed_as_they_are(warm: Bench) -> None:
    """With code, delay and all other attributes."""
    with pytest.raises(Reject) as rejected:
        await warm.run(functions.raises, "reject")
    assert (str(rejected.value), rejected.value.code) == ("no account", "NO_ACCOUNT")
    with pytest.raises(RetryLater) as later:
        await warm.run(functions.raises, "later")
    assert (later.value.after.total_seconds(), later.value.counts) == (7, True)


@pytest.mark.parametrize(
    "error",
    [
        StoreValidationError("details", "wrong"),
        ItemTooLarge("item", "too large", size=5, table="t", key="k"),
        ClaimLost("gone", status="FAILED", operation="complete"),
        RequestNotPending("no", status=RequestStatus.FAILED),
    ],
)
def test_store_errors_keep_their_fields(error: Exception) -> None:
    """After pickling and unpickling."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


async def test_a_handler_sees_soon_that_the_worker_drains(warm: Bench) -> None:
    """`ctx.draining` becomes true."""
    warm.channel.draining = True
    assert await warm.run(functions.until_draining) == "drained"


async def test_progress_is_sent_rarely_and_the_last_always(warm: Bench) -> None:
    """A hundred thousand reports are ten messages a second, and one at the end."""
    began = time.monotonic()
    await warm.run(functions.steps, 100_000)
    took = time.monotonic() - began
    assert warm.channel.reported[-1] == (1.0, "step 99999", False)
    assert len(warm.channel.reported) <= took / 0.1 + 2


async def test_a_reset_is_not_lost_among_others(warm: Bench) -> None:
    """The worker must accept the smaller fraction."""
    await warm.run(functions.resets)
    assert warm.channel.reported[-1][0] == 0.2
    assert any(reset for *_, reset in warm.channel.reported)


async def test_progress_before_a_long_silence_is_sent_soon(warm: Bench, tmp_path: Path) -> None:
    """It does not wait for the next report."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(warm.run, functions.reports_then_waits, str(tmp_path / "go"))
        with anyio.fail_after(PATIENCE):
            while (0.2, "newest", False) not in warm.channel.reported:
                await warm.channel.until_reported(len(warm.channel.reported) + 1)
        (tmp_path / "go").touch()


async def test_invalid_progress_is_raised_at_the_call(warm: Bench) -> None:
    """In the process."""
    assert await warm.run(functions.wrong_progress) == "details.x"


async def test_threads_of_a_handler_may_report(warm: Bench) -> None:
    """The largest fraction is kept."""
    await warm.run(functions.in_threads)
    assert warm.channel.reported[-1][0] == 0.9


async def test_a_checkpoint_is_answered(warm: Bench) -> None:
    """It is written after the progress before it, and an error is raised in the process."""
    assert await warm.run(functions.saves, {"row": 5}) == "saved"
    assert warm.channel.saved == [{"row": 5}]
    assert warm.channel.reported[-1] == (0.5, "half", False)
    warm.channel.refuse = ItemTooLarge("item", "too large")
    assert await warm.run(functions.saves, {"row": 6}) == "item refused"


async def test_printed_text_does_not_disturb_the_messages(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """It appears where the worker's output appears."""
    assert await bench.run(functions.prints) == "printed"
    printed = capfd.readouterr()
    assert "to stdout" in printed.out
    assert "to stderr" in printed.err


async def test_large_values_are_passed(warm: Bench) -> None:
    """Megabytes, in both directions."""
    assert len(await warm.run(functions.large, 5_000_000)) == 5_000_000
    assert (await warm.run(functions.double, "y" * 5_000_000))[0] == "y" * 5_000_000


async def test_a_payload_or_result_that_cannot_be_pickled_is_an_error(warm: Bench) -> None:
    """The process continues."""
    before = await warm.run(functions.pid)
    with pytest.raises(ResultInvalid, match="result cannot be pickled"):
        await warm.run(functions.not_picklable)
    with pytest.raises(TypeError, match="payload cannot be pickled"):
        await warm.run(functions.double, lambda: None)
    assert await warm.run(functions.pid) == before


def test_a_function_that_a_process_cannot_import_is_a_fault() -> None:
    """It is reported when the handler is loaded."""
    assert not_importable(functions.double) is None
    assert not_importable(functions.decorated.function) is None
    assert "top level" in str(not_importable(lambda: None))
    assert "top level" in str(not_importable(Bench.run))
    assert "no module or no name" in str(not_importable(5))  # type: ignore[arg-type]
