"""The command line. One file per group of commands."""

from streamer_worker.cli.main import main

__all__ = ["main"]
