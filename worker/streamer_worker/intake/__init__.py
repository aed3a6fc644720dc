"""Finding requests that wait, choosing which fit, and claiming them."""
