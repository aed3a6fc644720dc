"""Pushes progress and outcomes of requests to WebSocket connections."""
