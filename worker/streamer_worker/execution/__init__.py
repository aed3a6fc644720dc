"""Running handlers, and writing what comes of them."""
