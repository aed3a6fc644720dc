"""A worker under cProfile: `python -m bench.profiled_worker FILE` writes FILE at its end."""

from __future__ import annotations

import atexit
import cProfile
import sys

from streamer_worker.cli import main

if __name__ == "__main__":
    profile = cProfile.Profile()
    atexit.register(profile.dump_stats, sys.argv[1])
    sys.argv[1:] = ["run"]
    profile.enable()
    main()
