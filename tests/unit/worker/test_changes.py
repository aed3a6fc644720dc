"""Changes wakes the tasks that wait at the time of a change, and no later ones."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from streamer_worker.changes import Changes

pytestmark = pytest.mark.anyio


async def test_a_change_wakes_all_tasks_that_wait() -> None:
    """Each of them returns from `wait`."""
    changes, woken = Changes(), []

    async def wait(name: str) -> None:
        await changes.wait()
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "first")
        tasks.start_soon(wait, "second")
        await anyio.wait_all_tasks_blocked()
        changes.notify()
    assert sorted(woken) == ["first", "second"]


async def test_a_task_waits_for_a_change_after_its_call() -> None:
    """A change that came before is not reported again."""
    changes = Changes()
    changes.notify()
    with anyio.move_on_after(0) as scope:
        await changes.wait()
    assert scope.cancelled_caught


async def test_a_kept_event_reports_a_change_since_then() -> None:
    """A task that awaits between its reading and its waiting misses no change."""
    changes = Changes()
    upcoming = changes.next
    changes.notify()
    await checkpoint()
    assert upcoming.is_set()
    assert not changes.next.is_set()
