"""Running handlers and writing the outcome of each attempt."""
