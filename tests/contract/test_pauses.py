"""The row of pauses: each is written under what was read before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import pytest

from streamer_store import Pause, PauseKind, Stores, Undecodable, ValidationError
from streamer_store.engine import Put
from streamer_store.pause import CONTROL_PAUSE, MAX_PAUSES
from streamer_store.schema import WORKERS
from streamer_store.values import AttributeValue, Item
from support import START

if TYPE_CHECKING:
    from support import ManualClock

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


def _pause(
    kind: PauseKind = PauseKind.ACTION, name: str = "report", *, minutes: float | None = None
) -> Pause:
    until = None if minutes is None else START + minutes * MINUTE
    return Pause(kind=kind, name=name, by="ann@desk", at=START, until=until, reason="a test")


async def _only(stores: Stores) -> Pause:
    (pause,) = await stores.pauses.read_all()
    return pause


async def test_a_pause_is_stored_as_given(stores: Stores) -> None:
    """Who, when, until and why are read back, in a row that has no TTL and is no worker."""
    pause = _pause(minutes=10)
    assert await stores.pauses.start(pause) is None
    assert await stores.pauses.read_all() == [pause]
    item = await stores.workers.read_control(CONTROL_PAUSE)
    assert item is not None
    assert set(item) == {"WorkerID", "action#report"}
    assert set((await stores.workers.read_all()).controls) == {CONTROL_PAUSE}
    assert await stores.workers.list() == []


async def test_the_row_of_pauses_may_be_absent(stores: Stores) -> None:
    """Without a row nothing is paused."""
    assert await stores.pauses.read_all() == []
    assert await stores.workers.read_control(CONTROL_PAUSE) is None


@pytest.mark.parametrize("name", ["a b", "a.b", "a#b", "#", ":v0", "größe", "Status", "M[0]", "-"])
async def test_any_name_can_be_paused(stores: Stores, name: str) -> None:
    """Names with characters that expressions use are stored, and ended, as they are."""
    for kind in (PauseKind.ACTION, PauseKind.TENANT):
        await stores.pauses.start(_pause(kind, name))
    assert [pause.name for pause in await stores.pauses.read_all()] == [name, name]
    for pause in await stores.pauses.read_all():
        assert await stores.pauses.end(pause)
    assert await stores.pauses.read_all() == []


async def test_a_pause_replaces_the_one_before(stores: Stores) -> None:
    """The one that was replaced is returned. Pauses of other kinds stay."""
    first, fuse = _pause(), _pause(PauseKind.FUSE)
    await stores.pauses.start(first)
    await stores.pauses.start(fuse)
    second = replace(first, by="bob@desk", until=START + MINUTE)
    assert await stores.pauses.start(second) == first
    assert await stores.pauses.read_all() == [second, fuse]


async def test_only_a_longer_pause_extends(stores: Stores, clock: ManualClock) -> None:
    """A pause that ends earlier, or never began to be later, changes nothing.

    One that is over counts as none.
    """
    assert await stores.pauses.extend(_pause(minutes=5))
    assert not await stores.pauses.extend(_pause(minutes=4))
    assert not await stores.pauses.extend(_pause(minutes=5))
    assert await stores.pauses.extend(_pause(minutes=6))
    clock.advance(360)
    assert await stores.pauses.extend(_pause(minutes=7))
    assert await stores.pauses.extend(_pause())
    assert not await stores.pauses.extend(_pause(minutes=99))
    assert (await _only(stores)).until is None


async def test_an_end_leaves_a_newer_pause(stores: Stores) -> None:
    """A pause that was replaced since it was read is not ended. Proves PAUSE-2."""
    await stores.pauses.start(_pause())
    seen = await _only(stores)
    await stores.pauses.start(_pause(minutes=5))
    assert not await stores.pauses.end(seen)
    assert await stores.pauses.end(await _only(stores))
    assert await stores.pauses.end(seen)


async def test_one_worker_probes(stores: Stores) -> None:
    """Of workers that move one probe on at the same moment, one succeeds. Proves PAUSE-3."""
    fuse = replace(_pause(PauseKind.FUSE), probe_at=START)
    await stores.pauses.start(fuse)
    seen = await _only(stores)
    later = START + MINUTE
    won: list[Pause] = []

    async def probe(worker: str) -> None:
        moved = await stores.pauses.move_probe(seen, later, by=worker)
        if moved is not None:
            won.append(moved)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(probe, f"w{number}")
    (moved,) = won
    assert (await _only(stores)).probe_at == later
    assert await stores.pauses.end(moved)


async def test_a_probe_of_a_pause_that_has_ended_is_none(stores: Stores) -> None:
    """A worker that read the pause before it was ended does not write it again."""
    await stores.pauses.start(_pause(PauseKind.FUSE))
    seen = await _only(stores)
    await stores.pauses.end(seen)
    assert await stores.pauses.move_probe(seen, START + MINUTE, by="w1") is None
    assert await stores.pauses.read_all() == []


async def test_pauses_at_the_same_moment_are_all_kept(stores: Stores) -> None:
    """The first pauses, which create the row, do not overwrite each other."""
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(stores.pauses.start, _pause(name=f"a{number}"))
    assert len(await stores.pauses.read_all()) == 10


async def test_there_are_at_most_100_pauses(stores: Stores, clock: ManualClock) -> None:
    """One more is refused in words. A pause may be replaced, and those that are over count not."""
    names = [f"a{number}" for number in range(MAX_PAUSES)]
    entries = {f"action#{name}": {"M": {"By": {"S": "x"}}} for name in names}
    await stores.engine.put(Put(table=WORKERS, item={"WorkerID": {"S": CONTROL_PAUSE}, **entries}))
    with pytest.raises(ValidationError, match="pauses: there are 100 pauses, the limit is 100"):
        await stores.pauses.start(_pause(name="one more"))
    await stores.pauses.start(_pause(name="a0", minutes=1))
    clock.advance(60)
    await stores.pauses.start(_pause(name="one more"))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"S": "yes"}, "action#report: expected a map"),
        ({"M": {"By": {"N": "1"}}}, "action#report: By: expected text"),
        (
            {"M": {"Reason": {"S": "x" * 501}}},
            "action#report: reason: has 501 bytes, the limit is 500",
        ),
        ({"M": {"Until": {"S": "soon"}}}, "action#report: Until: not an RFC 3339 time: 'soon'"),
    ],
)
async def test_an_entry_that_cannot_be_read_is_in_force(
    stores: Stores, undecodable: list[Undecodable], stored: AttributeValue, reason: str
) -> None:
    """What an operator paused does not start because a part of it is broken. It is reported."""
    item: Item = {"WorkerID": {"S": CONTROL_PAUSE}, "action#report": stored}
    await stores.engine.put(Put(table=WORKERS, item=item))
    pause = await _only(stores)
    assert (pause.kind, pause.name, pause.until) == (PauseKind.ACTION, "report", None)
    assert [error.reason for error in undecodable] == [reason]
    assert await stores.pauses.end(pause)


async def test_an_attribute_that_is_no_pause_is_reported(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """A newer release may write kinds that this one does not know. They are left alone."""
    item: Item = {"WorkerID": {"S": CONTROL_PAUSE}, "region#eu": {"M": {}}}
    await stores.engine.put(Put(table=WORKERS, item=item))
    await stores.pauses.start(_pause())
    assert [error.key for error in undecodable] == [CONTROL_PAUSE]
    stored = await stores.workers.read_control(CONTROL_PAUSE)
    assert stored is not None
    assert "region#eu" in stored
