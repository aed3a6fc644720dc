"""The synchronous stores in real processes: forks, Ctrl-C, the end of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest
from aiohttp import web

from integration.proxy import Forward, passing, proxy_to
from processes import PATIENCE, environment
from streamer_store import (
    AsyncRequest,
    RequestStatus,
    StoreUnavailable,
    SyncStores,
    open_stores_sync,
)
from support import unique_prefix

pytestmark = pytest.mark.local


@pytest.fixture
def prefix(local_url: str) -> str:
    prefix = unique_prefix()
    with open_stores_sync(endpoint_url=local_url, prefix=prefix) as stores:
        stores.create_tables()
    return prefix


@pytest.fixture
def stores(local_url: str, prefix: str) -> Iterator[SyncStores]:
    with open_stores_sync(endpoint_url=local_url, prefix=prefix) as opened:
        yield opened


def ran(program: str, url: str, prefix: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has opened stores in its module."""
    opening = (
        "import multiprocessing, os, signal, sys, threading\n"
        "from streamer_store import AsyncRequest, open_stores_sync\n"
        "stores = open_stores_sync()\n"
        "def enqueue(name):\n"
        "    stores.requests.enqueue(AsyncRequest(action='echo', request_id=name))\n"
    )
    env = environment(STREAMER_ENDPOINT_URL=url, STREAMER_TABLE_PREFIX=prefix)
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", opening + program],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE / 3,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def names(stores: SyncStores) -> set[str]:
    return {each.request_id for each in stores.requests.get_by_status(RequestStatus.PENDING)}


def test_a_forked_child_opens_stores_of_its_own(
    stores: SyncStores, local_url: str, prefix: str
) -> None:
    """As under `gunicorn --preload`. The parent's stay open. Nothing is printed at the end."""
    program = """
enqueue("before")
child = os.fork()
if not child:
    enqueue("child")
    grandchild = os.fork()
    if not grandchild:
        enqueue("grandchild")
        sys.exit(0)
    enqueue("child again")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
enqueue("parent")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
enqueue("parent again")
"""
    ended = ran(program, local_url, prefix)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    family = {"before", "child", "grandchild", "child again", "parent", "parent again"}
    assert names(stores) == family


def test_a_child_that_closes_its_stores_leaves_the_parents_open(
    stores: SyncStores, local_url: str, prefix: str
) -> None:
    """Also if the child has made no call. multiprocessing forks, too."""
    program = """
def work():
    enqueue("child")
    stores.close()
forking = multiprocessing.get_context("fork")
for target in (work, stores.close):
    child = forking.Process(target=target)
    child.start()
    child.join()
    assert child.exitcode == 0
enqueue("parent")
stores.close()
"""
    ended = ran(program, local_url, prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert names(stores) == {"child", "parent"}


def test_a_fork_during_calls_of_other_threads(
    stores: SyncStores, local_url: str, prefix: str
) -> None:
    """The child needs no lock that another thread held at that moment."""
    program = """
done = threading.Event()
def busy(number):
    count = 0
    while not done.is_set():
        enqueue(f"busy-{number}-{count}")
        count += 1
threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for number in range(5):
    child = os.fork()
    if not child:
        enqueue(f"child-{number}")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
for thread in threads:
    thread.join()
"""
    ended = ran(program, local_url, prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {f"child-{number}" for number in range(5)} <= names(stores)


def test_the_first_calls_import_nothing(stores: SyncStores, local_url: str, prefix: str) -> None:
    """A child that is forked during an import waits for ever for the lock of the import."""
    program = """
before = set(sys.modules)
enqueue("first")
print(sorted(set(sys.modules) - before))
"""
    ended = ran(program, local_url.replace("127.0.0.1", "localhost"), prefix)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
    assert names(stores) == {"first"}


def test_stores_need_not_be_closed(stores: SyncStores, local_url: str, prefix: str) -> None:
    """As in a module of a Lambda function. The process ends, and prints nothing."""
    ended = ran("enqueue('one')", local_url, prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert names(stores) == {"one"}


class Hanging:
    """A fault that answers no call. It notices when the client gives one up."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.given_up = threading.Event()

    async def __call__(self, request: web.Request, _forward: Forward) -> web.StreamResponse:
        self.reached.set()
        with anyio.fail_after(PATIENCE):
            # aiohttp has no event for it.
            while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
                await anyio.sleep(0.01)
        self.given_up.set()
        return web.Response()

    def then(self, act: Callable[[], object]) -> threading.Thread:
        """Call `act` in another thread once a call hangs."""

        def wait() -> None:
            assert self.reached.wait(PATIENCE)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


def test_ctrl_c_ends_a_call_and_leaves_the_stores_usable(local_url: str, prefix: str) -> None:
    """The call is cancelled, so that it does not go on in the background."""
    with (
        proxy_to(local_url) as proxy,
        open_stores_sync(endpoint_url=proxy.url, prefix=prefix) as stores,
    ):
        proxy.fault = hanging = Hanging()
        thread = hanging.then(lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            stores.requests.enqueue(AsyncRequest(action="echo", request_id="interrupted"))
        thread.join()
        assert hanging.given_up.wait(PATIENCE)
        proxy.fault = passing
        stores.requests.enqueue(AsyncRequest(action="echo", request_id="next"))
        assert stores.requests.get("next").request_id == "next"


def test_closing_ends_the_calls_under_way(local_url: str, prefix: str) -> None:
    """They raise StoreUnavailable, since the write may have taken effect."""
    with proxy_to(local_url) as proxy:
        stores = open_stores_sync(endpoint_url=proxy.url, prefix=prefix)
        proxy.fault = hanging = Hanging()
        thread = hanging.then(stores.close)
        with pytest.raises(StoreUnavailable):
            stores.requests.enqueue(AsyncRequest(action="echo"))
        thread.join()
