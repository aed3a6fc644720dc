"""The contract of the permits of rate limits."""

from __future__ import annotations

from typing import Protocol

from streamer_store.rates import Block, Rate, Refused


class PermitStore(Protocol):
    """Grants permits, at most so many in a time over all takers.

    The generic cell rate algorithm: the limit has a theoretical arrival time (TAT), which each
    permit moves on by the time of one permit. It is never more than the burst and half a second
    ahead of the taker's time.
    """

    async def take(self, name: str, rate: Rate, permits: int, *, now: int) -> Block | Refused:
        """Take permits of a limit, all or none.

        - `name`: the limit, as `limit_name` makes it.
        - `rate`: the same for all takers. A TAT that no taker with this rate would have written,
          such as after a change of the rate, is replaced.
        - `permits`: how many, `rate.block` at most.
        - `now`: the taker's time in microseconds since 1970.

        Takers do not lose to each other: two of them get different permits. A call whose answer
        was lost may have taken permits that nobody uses. A refusal may come with a `retry_at` in
        the past: other takers were faster, several times.
        """
        ...
