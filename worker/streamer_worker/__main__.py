"""`python -m streamer_worker` is `streamer-worker`."""

from streamer_worker.cli import main

if __name__ == "__main__":
    main()
