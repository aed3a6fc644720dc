"""Services that the leader runs for the whole fleet: rescues, removals and counts."""
