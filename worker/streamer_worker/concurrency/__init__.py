"""Periodic loops, deadlines, signals, and the end of the process."""
