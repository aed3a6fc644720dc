"""Finds waiting requests, chooses which of them fit, and claims them."""
