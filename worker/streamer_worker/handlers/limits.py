"""The limits that `@handler` sets for an action, checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from streamer_store.rates import Rate
from streamer_worker.rate_texts import parse_rate

MAX_CONCURRENCY: Final = 1_000_000
"""The largest `max_concurrency`."""


class Scope(StrEnum):
    """Over which requests `max_concurrency` counts."""

    WORKER = "worker"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLimits:
    """How many of an action's requests run at once, and how many start in a time.

    * `max_concurrency`: how many run at once. None: as many as there are slots.
    * `max_concurrency_scope`: whether that is of one worker or of all workers together.
    * `rate_limit`: how many start in a time, over all workers. None: any number.
    * `rate_limit_per_tenant`: the same for the requests of each tenant.
    """

    max_concurrency: int | None = None
    max_concurrency_scope: Scope = Scope.WORKER
    rate_limit: Rate | None = None
    rate_limit_per_tenant: Rate | None = None


NO_LIMITS: Final = ActionLimits()


def action_limits(
    action: str,
    faults: list[str],
    *,
    max_concurrency: object,
    max_concurrency_scope: str,
    rate_limit: object,
    rate_limit_per_tenant: object,
) -> ActionLimits:
    """Return the limits of an action.

    A rate that cannot be read is added to `faults`. Raises TypeError or ValueError for the others,
    which names the option.
    """
    if max_concurrency is not None:
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int):
            raise TypeError(
                f"max_concurrency of action {action!r} must be a whole number, not"
                f" {max_concurrency!r}"
            )
        if not 1 <= max_concurrency <= MAX_CONCURRENCY:
            raise ValueError(
                f"max_concurrency of action {action!r} must be from 1 to {MAX_CONCURRENCY}"
            )
    if max_concurrency_scope not in set(Scope):
        raise ValueError(
            f"max_concurrency_scope of action {action!r} must be 'worker' or 'fleet', not"
            f" {max_concurrency_scope!r}"
        )
    scope = Scope(max_concurrency_scope)
    if scope is Scope.FLEET and max_concurrency is None:
        raise ValueError(
            f"max_concurrency_scope of action {action!r} needs max_concurrency: how many run at"
            " once"
        )
    return ActionLimits(
        max_concurrency=max_concurrency,
        max_concurrency_scope=scope,
        rate_limit=_rate("rate_limit", rate_limit, action, faults),
        rate_limit_per_tenant=_rate("rate_limit_per_tenant", rate_limit_per_tenant, action, faults),
    )


def _rate(name: str, value: Any, action: str, faults: list[str]) -> Rate | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(
            f"{name} of action {action!r} must be a text such as '100/m', not {value!r}"
        )
    try:
        return parse_rate(value)
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None
