"""Requests and workers by the beginnings of their ids."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, cast

import pytest
import typer

from streamer_store import (
    AccessDenied,
    AsyncRequest,
    InvalidInput,
    NotFound,
    RequestStatus,
    Stores,
    WorkerRow,
    memory_stores,
)
from streamer_worker.cli import ids
from streamer_worker.cli.ids import change_request, with_request, with_worker
from support import START, ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def stores() -> Stores:
    return memory_stores(clock=ManualClock(), rng=random.Random(7))


async def enqueue(stores: Stores, *names: str) -> None:
    """Enqueue requests, the last of which is the newest."""
    for number, name in enumerate(names):
        created = START + timedelta(seconds=number)
        await stores.requests.enqueue(AsyncRequest(action="a", request_id=name, created_at=created))


async def test_a_whole_id_takes_one_call() -> None:
    """Nothing else of the stores is used."""
    asked: list[str] = []

    async def read(request_id: str) -> str:
        asked.append(request_id)
        return "read"

    nothing = cast("Stores", None)
    assert await with_request(nothing, "r1", read) == ("r1", "read")
    changed = await change_request(nothing, "r1", read, verb="cancel")
    assert changed == ("r1", "read")
    assert asked == ["r1", "r1"]


async def test_a_whole_id_that_begins_another_is_the_request(stores: Stores) -> None:
    """It is not ambiguous."""
    await enqueue(stores, "import-1", "import-10")
    request_id, request = await with_request(stores, "import-1", stores.requests.get)
    assert request_id == request.request_id == "import-1"


async def test_a_request_of_any_status_is_found_by_its_beginning(stores: Stores) -> None:
    """Only the whole id is passed on."""
    await enqueue(stores, "abcd-1", "efgh-2", "ijkl-3")
    await stores.requests.cancel("abcd-1")
    assert (await with_request(stores, "abcd", stores.requests.get))[0] == "abcd-1"
    assert (await with_request(stores, "ijkl-", stores.requests.get))[0] == "ijkl-3"


async def test_an_ambiguous_beginning_lists_the_matches(stores: Stores) -> None:
    """With their statuses. Of many, five are listed."""
    await enqueue(stores, "abcd-1", "abcd-2")
    with pytest.raises(
        InvalidInput, match=r"2 requests begin with this id: abcd-2 \(PENDING\), abcd"
    ):
        await with_request(stores, "abcd", stores.requests.get)
    await enqueue(stores, *(f"abcd-{number}" for number in range(3, 20)))
    with pytest.raises(InvalidInput, match="more than 5 requests begin") as raised:
        await change_request(stores, "abcd", stores.requests.cancel, verb="cancel")
    assert str(raised.value).count("PENDING") == 5
    assert (await stores.requests.depth(RequestStatus.PENDING, limit=99)).count == 19


@pytest.mark.parametrize("text", ["abc", "abce"])
async def test_nothing_begins_with_it(stores: Stores, text: str) -> None:
    """Fewer than four characters are not searched for."""
    await enqueue(stores, "abcd-1")
    with pytest.raises(NotFound, match="no such request") as raised:
        await with_request(stores, text, stores.requests.get)
    assert ("none begins with this id" in str(raised.value)) == (len(text) == 4)


async def test_a_whole_uuid_is_not_searched_for() -> None:
    """No id begins with it. So a script that asks for a deleted request reads nothing else."""

    async def read(request_id: str) -> None:
        raise NotFound("no such request", key=request_id)

    with pytest.raises(NotFound):
        await with_request(cast("Stores", None), "3f6c1a2b-0000-4000-8000-000000000001", read)


async def test_only_the_newest_are_searched(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not found among them may exist: the error says to give the whole id."""
    monkeypatch.setattr(ids, "MAX_SEARCHED", 3)
    await enqueue(stores, "old-1", "new-1", "new-2", "new-3")
    with pytest.raises(NotFound, match=r"none of the 3 newest begins .* give the whole id"):
        await with_request(stores, "old-", stores.requests.get)
    assert (await with_request(stores, "new-2", stores.requests.get))[0] == "new-2"


async def test_nothing_is_changed_if_not_all_were_searched(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request may begin with the same. The whole id is in the error, to be copied."""
    monkeypatch.setattr(ids, "MAX_SEARCHED", 2)
    await enqueue(stores, "same-old", "other", "same-new")
    with pytest.raises(InvalidInput, match="same-new begins with this, but there are more than 2"):
        await change_request(stores, "same", stores.requests.cancel, verb="cancel")
    assert (await stores.requests.get("same-new")).status == "PENDING"
    monkeypatch.setattr(ids, "MAX_SEARCHED", 3)
    assert (await with_request(stores, "same-n", stores.requests.get))[0] == "same-new"


async def test_a_change_asks_before_it_takes_a_beginning_for_an_id(
    stores: Stores, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal it is refused with exit code 2."""
    await enqueue(stores, "abcd-1")
    with pytest.raises(typer.Exit) as raised:
        await change_request(stores, "abcd", stores.requests.cancel, verb="cancel")
    assert raised.value.exit_code == 2
    assert "Cancel abcd-1 (PENDING, a)?" in capsys.readouterr().err
    assert (await stores.requests.get("abcd-1")).status == "PENDING"
    monkeypatch.setattr(ids, "confirm_many", lambda *_, **__: None)
    changed, _ = await change_request(stores, "abcd", stores.requests.cancel, verb="cancel")
    assert changed == "abcd-1"
    assert (await stores.requests.get("abcd-1")).status == "CANCELLED"


async def test_who_may_not_read_the_index_gets_the_first_error(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one about the search."""

    async def refused(*_: Any, **__: Any) -> Any:
        raise AccessDenied("no")

    monkeypatch.setattr(stores.engine, "query", refused)
    with pytest.raises(NotFound, match="no such request"):
        await with_request(stores, "abcd", stores.requests.get)


async def test_a_worker_is_found_by_its_beginning(stores: Stores) -> None:
    """All rows are read, so the match is the only one."""
    for name in ("20260131T1-aa", "20260131T2-bb"):
        await stores.workers.register(WorkerRow(worker_id=name, started_at=START))
    order = stores.workers.request_drain
    assert await with_worker(stores, "20260131T1", order) == "20260131T1-aa"
    assert await with_worker(stores, "20260131T2-bb", order) == "20260131T2-bb"
    assert [row.drain for row in await stores.workers.list()] == [True, True]
    assert await with_worker(stores, "2027", order) is None
    assert await with_worker(stores, "202", order) is None
    with pytest.raises(InvalidInput, match="2 workers begin with this id: 20260131T1-aa, 2026"):
        await with_worker(stores, "2026", order)
