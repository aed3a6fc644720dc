"""The worker's heartbeat, and who else is alive."""
