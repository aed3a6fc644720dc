"""The command line: `python -m bench` runs all, `python -m bench drain --rounds 3` one part."""

from __future__ import annotations

from bench.cli import main

main()
