"""The decorator `@handler`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from streamer_worker import Context, Handler, RetryPolicy, handler
from support import START


async def plain(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    del ctx
    return payload


def test_a_function_becomes_the_handler_of_an_action() -> None:
    """The Handler has the action and the function."""
    defined = handler("greet")(plain)
    assert defined == Handler(action="greet", function=plain)


async def _keyword_default(payload: dict[str, Any], ctx: Context, *, more: int = 1) -> None: ...
async def _any(*args: Any) -> None: ...


class _Service:
    async def method(self, payload: dict[str, Any], ctx: Context) -> None: ...


@pytest.mark.parametrize(
    "function",
    [_keyword_default, _any, _Service().method, partial(plain)],
    ids=["defaults", "any", "method", "partial"],
)
def test_any_function_that_takes_payload_and_context_is_accepted(function: Any) -> None:
    """Methods, partials, and further parameters with defaults."""
    assert handler("x")(function).function == function


def _blocking(payload: Any, ctx: Any) -> None: ...
async def _generator(payload: Any, ctx: Any) -> Any:
    yield payload, ctx


async def _no_parameters() -> None: ...
async def _one(payload: Any) -> None: ...
async def _three(payload: Any, ctx: Any, more: Any) -> None: ...
async def _keyword_only(payload: Any, ctx: Any, *, more: Any) -> None: ...


def _plain_generator(payload: Any, ctx: Any) -> Any:
    yield payload, ctx


class _NoFunction:
    async def __call__(self, payload: Any, ctx: Any) -> None: ...


@pytest.mark.parametrize("function", [plain, partial(plain), _Service().method])
def test_an_async_function_runs_in_the_loop(function: Any) -> None:
    """Also as a partial, and as a method."""
    assert not handler("x")(function).in_thread


@pytest.mark.parametrize("function", [_blocking, partial(_blocking)])
def test_a_plain_function_runs_in_a_thread(function: Any) -> None:
    """On the event loop it would block."""
    assert handler("x")(function).in_thread


@pytest.mark.parametrize(
    "function",
    [_generator, _plain_generator, _NoFunction(), "text"],
    ids=lambda value: str(value)[:20],
)
def test_an_object_that_is_no_function_is_refused(function: Any) -> None:
    """Generators, callable objects and others. The error names the object and the action."""
    name = getattr(function, "__name__", "handler")
    with pytest.raises(TypeError, match=f"{name}.*'greet' must be a function, async or not"):
        handler("greet")(function)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_positive_number_of_seconds(timeout: float) -> None:
    """Any other value raises where the handler is defined."""
    with pytest.raises(ValueError, match="timeout of action 'greet'"):
        handler("greet", timeout=timeout)


@pytest.mark.parametrize("limit", [0, -3, 10**9])
def test_max_concurrency_is_one_or_more(limit: int) -> None:
    """With 0 no request would ever run."""
    with pytest.raises(ValueError, match="max_concurrency of action 'greet'"):
        handler("greet", max_concurrency=limit)


@pytest.mark.parametrize(
    "rules",
    [
        {"retry": 3},
        {"timeout": "5s"},
        {"timeout": True},
        {"max_concurrency": "4"},
        {"max_concurrency": 3.0},
    ],
    ids=str,
)
def test_options_of_another_type_are_refused(rules: dict[str, Any]) -> None:
    """They raise where the handler is defined, not when it first fails."""
    (name,) = rules
    with pytest.raises(TypeError, match=f"{name} of action 'greet' must be"):
        handler("greet", **rules)


def test_a_handler_keeps_its_options() -> None:
    """Timeout, retry policy and limit."""
    policy = RetryPolicy(first=1, longest=2)
    defined = handler("greet", timeout=5, retry=policy, max_concurrency=3)(plain)
    assert (defined.timeout, defined.retry, defined.max_concurrency) == (5, policy, 3)


@pytest.mark.parametrize(
    "function",
    [_no_parameters, _one, _three, _keyword_only],
    ids=lambda function: function.__name__,
)
def test_a_function_with_other_parameters_is_refused(function: Any) -> None:
    """The error names the parameters that it must take."""
    with pytest.raises(TypeError, match=rf"{function.__name__}.*\(payload, ctx\)"):
        handler("greet")(function)


@pytest.mark.parametrize("action", [plain, "", None, 5], ids=["function", "empty", "none", "int"])
def test_a_handler_needs_the_name_of_an_action(action: Any) -> None:
    """`@handler` without brackets, or without a name, raises."""
    with pytest.raises(TypeError, match="name of an action"):
        handler(action)


def test_the_repr_of_a_context_has_no_internals() -> None:
    """A context that a handler logs shows only the fields of the request."""

    class Machinery:
        draining = cancelled = False

    context = Context(
        request_id="r",
        action="a",
        attempt=1,
        max_retries=3,
        deadline=START,
        metadata={"secret": 1},
        channel=Machinery(),  # type: ignore[arg-type]
    )
    assert "Machinery" not in repr(context)
    assert "secret" not in repr(context)
    assert "request_id='r'" in repr(context)
