"""Benchmarks on DynamoDB Local: `make bench`. docs/performance.md explains the figures."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The helpers that start DynamoDB Local and write plugins are those of the tests.
sys.path.append(str(ROOT / "tests"))
