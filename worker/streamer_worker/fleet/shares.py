"""Divides what the fleet may run of an action among its workers (pure).

FLEET-1: a worker runs no more than it has announced in its row, and uses what it announced only
after it has read all rows since, and the announcements of all workers together do not exceed the
limit. Of two workers that announce too much together, at least the one that wrote last sees both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamer_store import WorkerRow
from streamer_store.fleet_shares import FleetShare
from streamer_worker.fleet.view import FleetView


def confirmed(limit: int, action: str, view: FleetView) -> int:
    """Return how many this worker may run at most, by what all rows announce (FLEET-1).

    The rows of dead workers count until they are removed: their handlers may still run.
    """
    rows = (*view.live, *view.dead)
    others = sum(_share(row, action).limit for row in rows if row.worker_id != view.worker_id)
    own = sum(_share(row, action).limit for row in rows if row.worker_id == view.worker_id)
    return max(0, min(own, limit - others))


def target(limit: int, action: str, view: FleetView, own: FleetShare, *, turn: int) -> int:
    """Return how many this worker announces next. All workers compute the same from the same rows.

    What the workers want is given to them evenly, and what nobody wants evenly to all. Of workers
    that run more than that, no handler is ended, but they start none: the others get the rest
    meanwhile. If there are more workers than the limit, the first of them are others with each
    `turn`, so that each gets its own requests done.
    """
    rows = [row for row in view.live if action in row.shares and not row.draining]
    shares = {row.worker_id: row.shares[action] for row in rows} | {view.worker_id: own}
    blocked = sum(
        _share(row, action).limit for row in (*view.live, *view.dead) if row.worker_id not in shares
    )
    order = sorted(shares)
    if limit < len(order):
        first = turn * limit % len(order)
        order = order[first:] + order[:first]
    return divided(max(0, limit - blocked), [(name, shares[name]) for name in order])[
        view.worker_id
    ]


def divided(limit: int, shares: Sequence[tuple[str, FleetShare]]) -> Mapping[str, int]:
    """Return how many each worker should run, in the order of who comes first."""
    result: dict[str, int] = {}
    rest = list(shares)
    while True:
        fair = _filled(limit, [(name, share.wanted) for name, share in rest])
        over = {name for name, share in rest if share.running > fair[name]}
        if not over:
            return result | fair
        result |= {name: fair[name] for name in over}
        limit = max(0, limit - sum(share.running for name, share in rest if name in over))
        rest = [(name, share) for name, share in rest if name not in over]


def _filled(limit: int, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Give each what it wants, evenly where that is too much, and what is left evenly to all."""
    given = dict.fromkeys((name for name, _ in wanted), 0)
    hungry = [(name, want) for name, want in wanted if want]
    left = limit
    while left and hungry:
        each = max(1, left // len(hungry))
        for name, want in hungry[:left]:
            given[name] = min(want, given[name] + each)
        left = limit - sum(given.values())
        hungry = [(name, want) for name, want in hungry if given[name] < want]
    for place, name in enumerate(given):
        given[name] += left // len(given) + (place < left % len(given))
    return given


def _share(row: WorkerRow, action: str) -> FleetShare:
    return row.shares.get(action, _NONE)


_NONE = FleetShare()
