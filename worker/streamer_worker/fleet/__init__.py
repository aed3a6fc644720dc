"""The heartbeat of the worker, and its view of the other workers."""
