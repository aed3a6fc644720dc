"""Listeners for events: logs, metrics, health, and the notification of systemd."""
