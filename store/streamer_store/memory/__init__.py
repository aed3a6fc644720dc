"""The stores without a network, for tests and for plugin authors."""

from streamer_store.memory.engine import MemoryEngine

__all__ = ["MemoryEngine"]
