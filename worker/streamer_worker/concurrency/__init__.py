"""Loops, deadlines, and how a worker stops."""
