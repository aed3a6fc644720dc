"""What a handler is, where it comes from, and what it is given."""
