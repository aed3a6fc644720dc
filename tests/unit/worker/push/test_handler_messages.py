"""Handlers' own messages: their order, their recipients and their limits, in virtual time."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import StoreUnavailable
from streamer_worker.changes import Changes
from streamer_worker.events import PushTried
from streamer_worker.push.errors import Gone, PushFailed
from streamer_worker.push.messages import HandlerMessage, Message
from streamer_worker.push.ordered_messages import OrderedMessages
from support import START
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import opened

pytestmark = pytest.mark.anyio


def message(request_id: str, data: str = "0") -> HandlerMessage:
    return HandlerMessage(
        request_id=request_id,
        connection_id="c1",
        at=START,
        attempt=1,
        data=data,
        user=None,
        tenant=None,
    )


@virtual_time
async def test_messages_arrive_in_their_order_and_before_the_outcome(world: World) -> None:
    """None replaces another one, also while the table is read for the first."""
    async with opened(world) as bench:
        await bench.connect("c1")
        for number in range(50):
            bench.send(number, own="c1")
        bench.complete(own="c1")
        await bench.settle()
    assert bench.gateway.sent("c1") == [*range(50), "complete"]


@virtual_time
async def test_an_outcome_waits_for_messages_whose_recipients_are_being_read(world: World) -> None:
    """Then it waits no longer."""
    async with opened(world) as bench:
        await bench.connect("c1", user_id="u1")
        read = world.engine.hold("query")
        bench.send("first", own="c1", user="u1")
        await read.wait_reached()
        bench.send("second", own="c1")
        bench.complete(own="c1")
        bench.complete(request_id="r2", own="c1")
        await anyio.sleep(1)
        assert bench.gateway.sent("c1") == ["complete"]
        read.let_go()
        await bench.settle()
    assert bench.gateway.sent("c1") == ["complete", "first", "second", "complete"]


@virtual_time
async def test_an_outcome_waits_two_seconds_at_most_for_recipients(world: World) -> None:
    """However long the table takes, and however many messages come before it. Proves PUSH-4."""
    async with opened(world) as bench:
        await bench.connect("c1")
        for number in range(100):
            world.engine.hold("query")
            bench.send(number, own="c1", user=f"u{number}")
        began = anyio.current_time()
        bench.complete(own="c1")
        while not bench.gateway.received:  # noqa: ASYNC110  virtual time
            await anyio.sleep(0.01)
        assert 1.9 < anyio.current_time() - began < 2.2


async def test_requests_take_turns() -> None:
    """While one request has many messages whose recipients are known, others go on."""
    order: list[str] = []

    async def distribute(message: Message, *, may_be_subscribed: bool) -> int:
        del may_be_subscribed
        order.append(message.request_id)
        return 0

    ordered = OrderedMessages(
        distribute=distribute,
        offer_final=lambda _: None,
        drop_if_old=lambda _: False,
        changes=Changes(),
    )
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            for request_id in ("r1", "r2"):
                ordered.offer(message(request_id), tasks)
    assert sorted(order[:2]) == sorted(order[2:4]) == ["r1", "r2"]
    assert (len(ordered), ordered.size) == (0, 0)


@virtual_time
async def test_an_outcome_goes_before_the_messages_of_other_connections(world: World) -> None:
    """Thousands of them wait for a post, and it waits for the end of one."""
    async with opened(world, max_concurrent_posts=2, timeout=5) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        bench.gateway.always = dict.fromkeys(ids, 1.0)
        bench.send("hello", tenant="t")
        await anyio.sleep(0.5)
        began = anyio.current_time()
        bench.complete(request_id="quick", own="c99")
        while "complete" not in bench.gateway.sent("c99"):  # noqa: ASYNC110  virtual time
            await anyio.sleep(0.01)
        assert anyio.current_time() - began < 4


@virtual_time
async def test_deliveries_of_messages_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many connections share their bytes. Outcomes are delivered."""
    monkeypatch.setattr("streamer_worker.push.deliveries._MAX_ORDERED", 100)
    async with opened(world, timeout=60) as bench:
        ids = [f"c{number}" for number in range(30)]
        await bench.connect(*ids)
        bench.gateway.always = dict.fromkeys(ids, 20.0)
        for _ in range(5):
            bench.send("hello", tenant="t")
        await anyio.sleep(1)
        assert bench.outcomes() == {("message", "dropped"): 50}
        bench.complete(own="c0")
        await bench.settle()
    assert bench.outcomes()["complete", "sent"] == 1


@virtual_time
async def test_an_outcome_does_not_wait_for_messages_of_other_requests(world: World) -> None:
    """It overtakes them on the same connection."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = 0.5
        for number in range(10):
            bench.send(number, request_id="chatty", own="c1")
        bench.complete(request_id="r2", own="c1")
        await bench.settle()
    assert bench.gateway.sent("c1").index("complete") <= 1


@virtual_time
async def test_an_outcome_waits_two_seconds_at_most(world: World) -> None:
    """On a slow connection it overtakes the messages of its own request. Proves PUSH-4."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = 0.5
        for number in range(20):
            bench.send(number, own="c1")
        bench.complete(own="c1")
        await bench.settle()
    sent = bench.gateway.sent("c1")
    assert 3 <= sent.index("complete") <= 5
    assert [data for data in sent if data != "complete"] == list(range(20))


@virtual_time
async def test_an_outcome_does_not_wait_for_messages_that_fail(world: World) -> None:
    """It is tried right after the first failure, without a pause. The messages are tried again
    after it. Proves PUSH-4.
    """
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("429")]
        for number in range(3):
            bench.send(number, own="c1")
        bench.complete(own="c1")
        await bench.settle()  # it does not end before the outcome was tried
        assert bench.gateway.sent("c1")[0] == "complete"
        await anyio.sleep(5)
    assert bench.gateway.sent("c1") == ["complete", 0, 1, 2]
    times = [at for at, _ in bench.gateway.tried]
    assert times[1] - times[0] < 0.1


@virtual_time
async def test_an_outcome_is_tried_although_messages_have_suspended_its_connection(
    world: World,
) -> None:
    """Once, and then with the pauses of a suspended connection. Proves PUSH-4."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500")] * 3
        for number in range(3):
            bench.send(number, own="c1")
        await anyio.sleep(10)
        assert len(bench.gateway.tried) == 3
        began = anyio.current_time()
        bench.complete(request_id="r2", own="c1")
        await bench.settle()
        assert anyio.current_time() - began < 1
    assert bench.gateway.sent("c1")[0] == "complete"


@virtual_time
async def test_messages_that_are_too_old_are_dropped(world: World) -> None:
    """A client that cannot be reached for 30 s gets the outcome, and no old messages."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = PushFailed("500")
        for number in range(100):
            bench.send(number, own="c1")
        bench.complete(own="c1")
        await anyio.sleep(35)
        bench.gateway.always["c1"] = 0.01
        bench.send("new", own="c1")
        await anyio.sleep(30)
    assert bench.gateway.sent("c1") == ["complete", "new"]
    assert bench.outcomes()["message", "dropped"] + bench.outcomes()["message", "failed"] >= 100


@virtual_time
async def test_progress_and_messages_take_turns(world: World) -> None:
    """A handler that sends all the time does not hold up its progress."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = 0.1
        for number in range(100):
            bench.send(number, own="c1")
            if number % 10 == 0:
                bench.progress(str(number), own="c1")
            await anyio.sleep(0.01)
        await anyio.sleep(1)
        assert "progress" in bench.gateway.sent("c1")[:5]


@virtual_time
async def test_messages_keep_to_their_rate(world: World) -> None:
    """`message_rate` limits the posts per second of all connections together."""
    async with opened(world, message_rate=50) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        began = anyio.current_time()
        bench.send("hello", tenant="t")
        await bench.settle()
        assert 1.8 <= anyio.current_time() - began <= 2.2
    assert len(bench.gateway.received) == 100


@virtual_time
async def test_a_broadcast_reaches_the_connections_of_a_user_or_a_tenant(world: World) -> None:
    """And no others. The request's own connection gets it only as one of them."""
    async with opened(world) as bench:
        await bench.connect("a1", "a2", user_id="alice", tenant_id="t1")
        await bench.connect("b1", user_id="bob", tenant_id="t1")
        await bench.connect("e1", user_id="eve", tenant_id="t2")
        bench.send("to alice", own="e1", user="alice")
        bench.send("to all of t1", own="e1", tenant="t1")
        bench.send("to nobody", own="e1", user="nobody")
        await bench.settle()
    assert {name: bench.gateway.sent(name) for name in bench.gateway.received} == {
        "a1": ["to alice", "to all of t1"],
        "a2": ["to alice", "to all of t1"],
        "b1": ["to all of t1"],
    }


@virtual_time
async def test_the_recipients_are_read_once_in_five_seconds(world: World) -> None:
    """However many messages a handler sends. Later ones reach who has connected since."""
    async with opened(world) as bench:
        await bench.connect("c1")
        for _ in range(20):
            bench.send("to all", tenant="t")
            bench.send("to one", own="c1")
            await anyio.sleep(0.2)
        assert world.engine.calls.count("query") == 1
        await bench.connect("c2")
        await anyio.sleep(2)
        bench.send("later", tenant="t")
        await bench.settle()
    assert bench.gateway.sent("c2") == ["later"]


@virtual_time
async def test_a_closed_connection_gets_no_more_messages(world: World) -> None:
    """It is deleted, and the others get theirs."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        bench.gateway.answers["c1"] = [Gone("closed")]
        for number in range(3):
            bench.send(number, tenant="t")
            await bench.settle()
    assert bench.gateway.sent("c1") == []
    assert bench.gateway.sent("c2") == [0, 1, 2]
    assert list(await world.stores.connections.get_many(["c1", "c2"])) == ["c2"]


@virtual_time
async def test_a_message_whose_recipients_cannot_be_read_is_lost(world: World) -> None:
    """The next one reads again, and the outcome is delivered."""
    async with opened(world) as bench:
        await bench.connect("c1")
        world.engine.fail("query", StoreUnavailable("away"))
        bench.send("lost", tenant="t", own="c1")
        bench.send("next", tenant="t", own="c1")
        bench.complete(own="c1")
        await bench.settle()
    assert bench.gateway.sent("c1") == ["next", "complete"]
    assert bench.outcomes()["message", "unresolved"] == 1


@virtual_time
async def test_a_broadcast_to_too_many_reaches_as_many_as_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That some are left out is counted."""
    monkeypatch.setattr("streamer_worker.push.notifier.MOST_OF_A_BROADCAST", 5)
    monkeypatch.setattr("streamer_worker.push.recipients._READ_FOR_A_BROADCAST", 6)
    async with opened(world) as bench:
        await bench.connect(*(f"c{number}" for number in range(8)))
        bench.send("hello", tenant="t")
        await bench.settle()
    assert len(bench.gateway.received) == 5
    cut = [event for event in world.recorder.of(PushTried) if event.code == "too_many_connections"]
    assert cut == [PushTried(type="message", outcome="dropped", code="too_many_connections")]
