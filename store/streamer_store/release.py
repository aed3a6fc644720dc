"""The versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version(distribution: str) -> str:
    """Return the version of an installed distribution, or `unknown`."""
    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):  # ValueError: an empty name
        return "unknown"
