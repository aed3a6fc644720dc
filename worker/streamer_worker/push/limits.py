"""How much may wait to be pushed (pure). Half of each limit is reserved for final messages."""

from __future__ import annotations

from typing import Final

from streamer_worker.push.messages import Message

# Requests, and connections, that may have messages waiting.
MOST: Final = 10_000
# Bytes of memory of the messages whose recipients are not determined, and again of the encoded
# messages in the outboxes.
MAX_SIZE: Final = 32_000_000


def capacity_for(message: Message) -> int:
    """Return how many requests, or connections, may have messages waiting, for one more like
    this.
    """
    return MOST if message.is_final else MOST // 2


def max_size_for(message: Message) -> int:
    """Return how many bytes may wait, for one more message like this."""
    return MAX_SIZE if message.is_final else MAX_SIZE // 2
