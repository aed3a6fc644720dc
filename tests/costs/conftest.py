"""Fixtures of the tests with real processes."""

from integration.conftest import engine_url, plugins, real, real_url, server

__all__ = ["engine_url", "plugins", "real", "real_url", "server"]
