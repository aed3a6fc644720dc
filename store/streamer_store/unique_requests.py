"""Checks of new requests with a unique key (pure). Each raises ValidationError."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from streamer_store.errors import ValidationError
from streamer_store.models import AsyncRequest
from streamer_store.unique_keys import require_window, unique_id


def with_key(
    request: AsyncRequest, unique_key: str | None, unique_for: timedelta | None
) -> AsyncRequest:
    """Return the request with the key and the window of the arguments of `enqueue`."""
    for name, value in {"unique_key": unique_key, "unique_for": unique_for}.items():
        if value is not None and getattr(request, name) is not None:
            raise ValidationError(name, f"is set already: give no `{name}` as an argument")
    if unique_key is not None:
        request = replace(request, unique_key=unique_key)
    return request if unique_for is None else replace(request, unique_for=unique_for)


def id_of_key(request: AsyncRequest) -> str | None:
    """Return the id that the key of a new request gives. None: it has no key."""
    if request.unique_key is None:
        if request.unique_for is not None:
            raise ValidationError("unique_for", "needs a `unique_key`")
        return None
    if request.request_id:
        raise ValidationError("request_id", "cannot be combined with `unique_key`, which gives it")
    if request.unique_for is not None:
        require_window(request.unique_for)
    return unique_id(request.action, request.unique_key, tenant_id=request.tenant_id)


def require_no_key(request: AsyncRequest, operation: str) -> None:
    """Check that a request of a transaction has no key."""
    if request.unique_key is not None:
        raise ValidationError(
            "unique_key",
            f"cannot be used with {operation}: use `enqueue`, and then `subscribe`",
        )
