"""`@handler`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from streamer_worker import Context, Handler, handler


async def plain(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    del ctx
    return payload


def test_a_function_becomes_the_handler_of_an_action() -> None:
    """The action and the function are kept."""
    made = handler("greet")(plain)
    assert made == Handler(action="greet", function=plain)


async def _keyword_default(payload: dict[str, Any], ctx: Context, *, more: int = 1) -> None: ...
async def _any(*args: Any) -> None: ...


class _Service:
    async def method(self, payload: dict[str, Any], ctx: Context) -> None: ...


@pytest.mark.parametrize(
    "function",
    [_keyword_default, _any, _Service().method, partial(plain)],
    ids=["defaults", "any", "method", "partial"],
)
def test_whatever_can_be_called_with_payload_and_context_will_do(function: Any) -> None:
    """Methods, partials and further parameters with defaults are taken."""
    assert handler("x")(function).function == function


def _blocking(payload: Any, ctx: Any) -> None: ...
async def _generator(payload: Any, ctx: Any) -> Any:
    yield payload, ctx


async def _no_parameters() -> None: ...
async def _one(payload: Any) -> None: ...
async def _three(payload: Any, ctx: Any, more: Any) -> None: ...
async def _keyword_only(payload: Any, ctx: Any, *, more: Any) -> None: ...


@pytest.mark.parametrize("function", [_blocking, _generator], ids=lambda each: each.__name__)
def test_a_function_that_is_not_async_is_refused(function: Any) -> None:
    """The error names the function and the action."""
    with pytest.raises(TypeError, match=f"{function.__name__}.*'greet'.*async"):
        handler("greet")(function)


@pytest.mark.parametrize(
    "function", [_no_parameters, _one, _three, _keyword_only], ids=lambda each: each.__name__
)
def test_a_function_with_other_parameters_is_refused(function: Any) -> None:
    """The error says which parameters are wanted."""
    with pytest.raises(TypeError, match=rf"{function.__name__}.*\(payload, ctx\)"):
        handler("greet")(function)


@pytest.mark.parametrize("action", [plain, "", None, 5], ids=["function", "empty", "none", "int"])
def test_a_handler_needs_the_name_of_an_action(action: Any) -> None:
    """`@handler` without brackets, or without a name, is told at once."""
    with pytest.raises(TypeError, match="name of an action"):
        handler(action)


def test_a_context_shows_no_machinery() -> None:
    """A context that a handler logs holds the request's own facts only."""

    async def machinery(
        progress: float | None, message: str | None, details: Mapping[str, Any] | None
    ) -> None: ...

    context = Context(request_id="r", action="a", attempt=1, max_retries=3, report=machinery)
    assert "machinery" not in repr(context)
    assert "request_id='r'" in repr(context)
