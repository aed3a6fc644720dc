"""Commands that wait for DynamoDB: they say so after 2 s, and end after 20 s."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from streamer_store import StoreUnavailable
from streamer_store.errors import leaf_exceptions
from streamer_store.target import without_password
from streamer_worker.cli.output import print_line

if TYPE_CHECKING:
    from streamer_store.dynamo.calls import CallEnded, TryFailed
    from streamer_worker.settings import Settings

CALL_TIMEOUT: Final = 20.0
"""Seconds until a call without an answer ends the command."""
_SILENT: Final = 2.0
_LATE: Final = 0.2
_NO_ANSWER: Final = ("DynamoDB did not answer", "the AWS client failed")


class Waiting:
    """Says on stderr, once, that a command waits for DynamoDB.

    It does so when no call has ended 2 s after `begin` or `restart`, or 2 s after a failed
    attempt of a call. Time in which the event loop was busy does not count. Use it in the event
    loop of the stores.

    `place`: where DynamoDB is.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._timer: asyncio.TimerHandle | None = None
        self._has_said_so = False

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Expect an answer. The block is the work of the command."""
        self._expect()
        try:
            yield
        finally:
            self._stop()

    def restart(self) -> None:
        """Count from now on. The client is open, which takes CPU time."""
        self._stop()
        self._expect()

    def observe(self, event: CallEnded | TryFailed) -> None:
        """Take an event of the stores' calls into account."""
        from streamer_store.dynamo.calls import CallEnded

        if isinstance(event, CallEnded):
            self._stop()
        elif self._timer is None:
            self._expect()

    def _expect(self) -> None:
        if not self._has_said_so:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_SILENT, self._say_so, loop.time() + _SILENT)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say_so(self, due: float) -> None:
        if asyncio.get_running_loop().time() > due + _LATE:
            self._expect()
            return
        self._has_said_so = True
        print_line(f"waiting for DynamoDB at {self._place}, for up to {CALL_TIMEOUT:g} s", err=True)


@contextmanager
def advising(place: str) -> Iterator[None]:
    """Add what to check to a StoreUnavailable that says that DynamoDB did not answer."""
    try:
        yield
    except (StoreUnavailable, BaseExceptionGroup) as error:
        for leaf in leaf_exceptions(error):
            if isinstance(leaf, StoreUnavailable) and leaf.message.startswith(_NO_ANSWER):
                leaf.message += (
                    f". Check that {place} is right and can be reached from here"
                    " (STREAMER_ENDPOINT_URL, STREAMER_REGION, network, credentials)"
                )
        raise


def place_of(settings: Settings) -> str:
    """Return the URL of DynamoDB, without a password, or the region whose DynamoDB it is."""
    from streamer_worker.cli.addresses import configured_address

    address = configured_address(settings)
    if address.endpoint.value:
        return without_password(address.endpoint.value)
    return f"AWS in {address.region.value}" if address.region.value else "AWS"
