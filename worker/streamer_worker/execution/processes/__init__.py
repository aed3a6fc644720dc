"""Child processes that run handlers with `process=True`."""
