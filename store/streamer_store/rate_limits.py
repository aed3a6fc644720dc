"""The permits of rate limits, over any engine.

A limit is one item of requests that is no request: it has no Status and no ConnectionID, so it is
in no index, and nobody reads it but those who take permits. It is in this table, and not in that of
the workers, because each worker reads all rows of that one again and again.
"""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256
from typing import Final

from streamer_store.conditions import Below, Between, Condition, equals
from streamer_store.engine import ConditionFailed, Engine, Update
from streamer_store.errors import ValidationError
from streamer_store.rates import MICROSECONDS, Block, Rate, Refused
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.schema import REQUESTS, TTL_ATTRIBUTE
from streamer_store.values import AttributeValue

LIMIT_PREFIX: Final = f"{CONTROL_PREFIX}limit#"
_TAT: Final = "TAT"
_MAX_NAME_BYTES: Final = 1024
_KEPT_FOR: Final = 86_400
"""Seconds that the item outlives its last permit."""
_CLOCK_ERROR: Final = 5 * MICROSECONDS
"""A TAT further ahead than this was written with another rate, or by a clock that is off."""
_MAX_TRIES: Final = 4


def limit_name(action: str, tenant: str | None = None) -> str:
    """Return the name of the limit of an action, or of one tenant's requests of it."""
    parts = (action,) if tenant is None else (action, tenant)
    name = "#".join(part.replace("%", "%25").replace("#", "%23") for part in parts)
    data = name.encode()
    return name if len(data) <= _MAX_NAME_BYTES else f"sha256%{sha256(data).hexdigest()}"


class PermitTable:
    """Implements PermitStore."""

    def __init__(self, *, engine: Engine) -> None:
        self._engine = engine

    async def take(self, name: str, rate: Rate, permits: int, *, now: int) -> Block | Refused:
        if not 1 <= permits <= rate.block:
            raise ValidationError("permits", f"must be 1 to {rate.block} at this rate")
        update = move_on(name, rate, permits, now=now)
        for _ in range(_MAX_TRIES):
            try:
                item = await self._engine.update(update)
            except ConditionFailed as failed:
                seen = (failed.old or {}).get(_TAT)
                retry_at = _refused_until(seen, rate, now)
                if retry_at is not None:
                    return Refused(retry_at=retry_at)
                update = take_from(seen, name, rate, permits, now=now)
            else:
                arrival = int(Decimal(item[_TAT]["N"])) - rate.cost(permits)
                return Block(rate=rate, arrival=arrival, permits=permits, taken_at=now)
        return Refused(retry_at=now)


def take_from(
    seen: AttributeValue | None, name: str, rate: Rate, permits: int, *, now: int
) -> Update:
    """Return the write that takes permits of a limit with this TAT, which does not refuse them."""
    at = _number(seen)
    if at is None or at > now + _furthest(rate):
        return start(name, rate, permits, now=now, condition=equals(_TAT, seen))
    if at < now:
        return start(name, rate, permits, now=now, condition=Below(_TAT, _value(now)))
    return move_on(name, rate, permits, now=now)


def move_on(name: str, rate: Rate, permits: int, *, now: int) -> Update:
    """Return the write that moves the TAT on, whatever it is between now and the allowance.

    It has no TAT as seen, so takers do not lose to each other.
    """
    latest = now + rate.allowance
    return Update(
        table=REQUESTS,
        key=LIMIT_PREFIX + name,
        adds={_TAT: _value(rate.cost(permits))},
        sets=_expiry(latest + rate.cost(permits)),
        conditions=(Between(_TAT, _value(now), _value(latest)),),
    )


def start(name: str, rate: Rate, permits: int, *, now: int, condition: Condition) -> Update:
    """Return the write that takes the first permits after a pause, or after a TAT that is wrong."""
    end = now + rate.cost(permits)
    return Update(
        table=REQUESTS,
        key=LIMIT_PREFIX + name,
        sets={_TAT: _value(end)} | _expiry(end),
        conditions=(condition,),
    )


def _refused_until(seen: AttributeValue | None, rate: Rate, now: int) -> int | None:
    """Return when permits may be granted again, or None: a write may succeed now."""
    at = _number(seen)
    if at is None or not now + rate.allowance < at <= now + _furthest(rate):
        return None
    return at - rate.allowance


def _furthest(rate: Rate) -> int:
    return rate.allowance + rate.cost(rate.block) + _CLOCK_ERROR


def _number(value: AttributeValue | None) -> int | None:
    return int(Decimal(value["N"])) if value is not None and "N" in value else None


def _value(number: int) -> AttributeValue:
    return {"N": str(number)}


def _expiry(at: int) -> dict[str, AttributeValue]:
    return {TTL_ATTRIBUTE: _value(at // MICROSECONDS + _KEPT_FOR)}
