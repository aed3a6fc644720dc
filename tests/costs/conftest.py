"""Fixtures of the tests with real processes."""

from integration.conftest import plugins, real, server

__all__ = ["plugins", "real", "server"]
