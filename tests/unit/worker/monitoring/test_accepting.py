"""The limits on HTTP connections, and the behaviour without descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import SocketStream

from streamer_worker.events import Events, StepFailed
from streamer_worker.monitoring.accepting import Acceptor
from unit.worker.harness import Recorder

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")


class Failing(Greeter):
    """The first three instances raise in their constructor."""

    created = 0

    def __init__(self) -> None:
        type(self).created += 1
        if self.created <= 3:
            raise OSError(errno.EMFILE, "Too many open files")


@asynccontextmanager
async def accepting(
    recorder: Recorder, factory: type[asyncio.Protocol] = Greeter, **limits: float
) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003  its own signature
        acceptor = Acceptor(
            listening,
            factory,
            events=Events(recorder),
            **limits,  # type: ignore[arg-type]
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(acceptor.accept)
            with anyio.fail_after(10):
                yield listening.getsockname()
            tasks.cancel_scope.cancel()
        acceptor.close()


async def closed(peer: SocketStream) -> None:
    """Wait until the server has closed the connection."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await peer.receive()


async def test_a_connection_is_closed_after_its_lifetime() -> None:
    """It is closed although the peer has not ended it."""
    async with (
        accepting(Recorder(), lifetime=0.05) as address,
        await anyio.connect_tcp(*address) as peer,
    ):
        assert await peer.receive() == b"hello"
        await closed(peer)


async def test_the_oldest_connection_is_closed_for_a_new_one() -> None:
    """Of three connections two are kept. A connection that ends makes room for one more."""
    async with accepting(Recorder(), max_connections=2) as address:
        peers = [await anyio.connect_tcp(*address) for _ in range(3)]
        for peer in peers[1:]:
            assert await peer.receive() == b"hello"
        await closed(peers[0])
        for peer in peers:
            await peer.aclose()


async def test_connections_beyond_a_burst_are_accepted_at_a_rate() -> None:
    """Two are accepted at once, then twenty per second: the sixth is accepted after 0.2 s."""
    async with accepting(Recorder(), burst=2, rate=20) as address:
        began = anyio.current_time()
        for _ in range(6):
            async with await anyio.connect_tcp(*address) as peer:
                assert await peer.receive() == b"hello"
        assert anyio.current_time() - began >= 0.15


async def test_a_failed_accept_is_emitted_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pause follows the failure, so that a shortage costs no CPU time."""
    monkeypatch.setattr("streamer_worker.monitoring.accepting._PAUSE_AFTER_FAILURE", 0.01)
    recorder = Recorder()
    async with accepting(recorder, Failing) as address:
        for _ in range(3):
            async with await anyio.connect_tcp(*address) as refused:
                await closed(refused)
        async with await anyio.connect_tcp(*address) as peer:
            assert await peer.receive() == b"hello"
    (failed,) = recorder.of(StepFailed)
    assert failed.loop == "http"
