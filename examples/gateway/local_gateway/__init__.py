"""A gateway on one machine: what API Gateway and its Lambda functions do for WebSocket clients."""

from local_gateway.server import Gateway, open_gateway

__all__ = ["Gateway", "open_gateway"]
