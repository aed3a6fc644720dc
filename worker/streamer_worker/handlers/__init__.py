"""Handlers: their definition, their registry, and the context that they get."""
