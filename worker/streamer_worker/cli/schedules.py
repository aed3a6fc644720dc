from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

import anyio
import typer

from streamer_store import (
    FleetRows,
    NotFound,
    RequestStatus,
    ScheduleRow,
    Stores,
    SystemClock,
    WorkerRow,
)
from streamer_store.clock import new_id
from streamer_store.pause import Pause, PauseKind
from streamer_store.schedule_row import decode_schedules, listed_names, tick_id
from streamer_store.times import format_time
from streamer_worker.cli.columns import STATUS_STYLES, Cell, Column
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.group import MARKUP, Group
from streamer_worker.cli.live_workers import live_rows
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import print_json, print_line, print_rows
from streamer_worker.cli.pause_arguments import (
    PauseForOption,
    PauseUntilOption,
    ReasonOption,
    end_of_pause,
    operator,
)
from streamer_worker.cli.pause_texts import pause_end, pause_fields, paused_text

cli = typer.Typer(
    cls=Group,
    help="List the schedules of the fleet, run one now, pause and resume them.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
)

_NEXT_TIMES: Final = 5
_RUN_SECONDS: Final = 20.0
_RUN_CHECK: Final = 0.5
_COLUMNS: Final = (
    Column(name="schedule"),
    Column(name="action", can_cut=True),
    Column(name="cron"),
    Column(name="timezone", can_cut=True),
    Column(name="made by"),
    Column(name="last tick"),
    Column(name="its request"),
    Column(name="next", can_cut=True),
)
NameArgument = Annotated[str, typer.Argument(help="Name of the schedule.", metavar="NAME")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What is shown of a schedule.

    - `status`: that of the last tick's request. None: there is no tick, or no request any more.
    - `workers`: how many live workers list it. `others`: how many of them with another definition.
    - `fault`: why the next times are not known. Empty: they are.
    """

    row: ScheduleRow
    status: RequestStatus | None
    pause: Pause | None
    workers: int
    others: int
    next: Sequence[datetime]
    fault: str


@cli.callback()
def schedules(
    context: typer.Context, *, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """List the schedules of the fleet, run one now, pause and resume them.

    Without a command it lists the schedules that workers have written into the workers table: the
    next five times in the schedule's time zone, the last tick, and what became of its request.

    Example: `streamer-worker schedules --json`, or `streamer-worker schedules run nightly_report`
    """
    if context.invoked_subcommand is not None:
        return
    from streamer_worker.settings import load_settings

    lease = load_settings(config).presence.lease

    async def work(stores: Stores) -> list[_Shown]:
        fleet = await stores.workers.read_all()
        rows, errors = decode_schedules(fleet.controls)
        for error in errors:
            print_line(f"warning: {error}", err=True)
        ids = {row.name: tick_id(row.name, row.made_tick) for row in rows if row.made_tick}
        requests = await stores.requests.get_many(list(ids.values()))
        statuses = {name: requests[key].status for name, key in ids.items() if key in requests}
        live = live_rows(fleet.workers, SystemClock().now(), lease=lease)
        return [_shown(row, fleet, live, statuses.get(row.name)) for row in rows]

    shown = sorted(with_stores(config, work), key=lambda one: one.row.name)
    if as_json:
        print_json([_fields(one) for one in shown])
    elif shown:
        print_rows(_COLUMNS, [_cells(one) for one in shown], shorten=None)
    else:
        print_line("no schedules: no worker that runs, or ran within a day, has one")


@cli.command()
def run(name: NameArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Make a request of a schedule now, besides its ticks, also while it is paused.

    A worker that has the schedule makes it, at the latest after its next heartbeats. Waits for
    that up to 20 s, and prints the id of the request. If one is ordered already, it waits for that.

    Example: `streamer-worker schedules run nightly_report`
    """

    async def work(stores: Stores) -> tuple[str, bool]:
        request_id = await stores.schedules.request_run(name, new_id(random.SystemRandom()))
        if request_id is None:
            raise await _unknown(stores, name)
        with anyio.move_on_after(_RUN_SECONDS):
            while True:
                if await stores.requests.get_many([request_id]):
                    return request_id, True
                await anyio.sleep(_RUN_CHECK)
        return request_id, False

    request_id, made = with_stores(config, work)
    if as_json:
        print_json({"schedule": name, "request_id": request_id, "made": made})
    else:
        print_line(request_id)
        if not made:
            text = "no worker has made it yet. One that has the schedule does when it runs"
            print_line(f"warning: {text}", err=True)


@cli.command()
def pause(
    name: NameArgument,
    *,
    until: PauseUntilOption = None,
    for_: PauseForOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Pause a schedule until `resume`, or until the time given.

    Its ticks are skipped, and not made up for later. Workers know it after their next heartbeats.

    Example: `streamer-worker schedules pause nightly_report --for 2d --reason "month end"`
    """
    now = SystemClock().now()
    new = Pause(
        kind=PauseKind.SCHEDULE,
        name=name,
        by=operator(),
        at=now,
        until=end_of_pause(until, for_, now),
        reason=reason,
    )

    async def work(stores: Stores) -> Pause | None:
        await _require(stores, name)
        return await stores.pauses.start(new)

    replaced = with_stores(config, work)
    if as_json:
        print_json({"schedule": name, "paused": True, "pause": pause_fields(new)})
    else:
        print_line(paused_text(new, replaced, now))


@cli.command()
def resume(name: NameArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Resume a paused schedule, from its next tick on.

    Example: `streamer-worker schedules resume nightly_report`
    """

    async def work(stores: Stores) -> None:
        from streamer_worker.schedules.pausing import pause_of

        await _require(stores, name)
        while (pause := pause_of(await stores.pauses.read_all(), name)) is not None:
            await stores.pauses.end(pause)  # somebody may have replaced it, then again

    with_stores(config, work)
    if as_json:
        print_json({"schedule": name, "paused": False})
    else:
        print_line(f"resumed schedule {name}")


async def _require(stores: Stores, name: str) -> None:
    """Raise NotFound if there is no schedule of this name, with those that there are."""
    if await stores.schedules.get(name) is None:
        raise await _unknown(stores, name)


async def _unknown(stores: Stores, name: str) -> NotFound:
    """Return the error for a schedule that does not exist, with those that do."""
    rows, _ = decode_schedules((await stores.workers.read_all()).controls)
    known = ", ".join(sorted(row.name for row in rows)) or "none"
    return NotFound(f"no such schedule; schedules: {known}", operation="schedules", key=name)


def _shown(
    row: ScheduleRow,
    fleet: FleetRows,
    live: Sequence[WorkerRow],
    status: RequestStatus | None,
) -> _Shown:
    from streamer_worker.cron import CronExpression, ExpressionInvalid
    from streamer_worker.schedules.pausing import pause_in_force

    now = SystemClock().now()
    times: list[datetime] = []
    fault = ""
    try:
        expression = CronExpression(row.expression, row.timezone)
        times = list(islice(expression.after(max(now, row.last_tick)), _NEXT_TIMES))
    except ExpressionInvalid as error:  # another release wrote it
        fault = str(error)
    definitions = [listed_names(worker.schedules).get(row.name) for worker in live]
    listed = [definition for definition in definitions if definition is not None]
    return _Shown(
        row=row,
        status=status,
        pause=pause_in_force(fleet.controls, row.name, now),
        workers=len(listed),
        others=sum(definition != row.definition for definition in listed),
        next=times,
        fault=fault,
    )


def _fields(one: _Shown) -> dict[str, Any]:
    row = one.row
    made = row.made_tick
    return {
        "name": row.name,
        "action": row.action,
        "cron": row.expression,
        "timezone": row.timezone,
        "paused": one.pause is not None,
        "pause": None if one.pause is None else pause_fields(one.pause),
        "workers": one.workers,
        "workers_with_another_definition": one.others,
        "last_tick": None if made is None else format_time(made),
        "last_request_id": None if made is None else tick_id(row.name, made),
        "last_status": one.status,
        "next": [format_time(tick) for tick in one.next],
    }


def _cells(one: _Shown) -> tuple[Cell, ...]:
    row = one.row
    return (
        row.name,
        row.action,
        row.expression,
        row.timezone,
        _state(one),
        "" if row.made_tick is None else next(_local([row.made_tick], row.timezone)),
        "" if one.status is None else (one.status, STATUS_STYLES[one.status]),
        one.fault or ", ".join(_local(one.next, row.timezone)),
    )


def _state(one: _Shown) -> Cell:
    if one.pause is not None:
        end = "" if one.pause.until is None else f" {pause_end(one.pause)}"
        return (f"paused{end}", "yellow")
    if not one.workers:
        return ("no worker", "red")
    others = f", {one.others} with another definition" if one.others else ""
    return f"{counted(one.workers, 'worker')}{others}"


def _local(times: Sequence[datetime], timezone: str) -> Iterator[str]:
    """Return times in the schedule's own time zone, or in UTC if it is not known here."""
    from streamer_worker.cron import ExpressionInvalid, parse_timezone

    try:
        zone = parse_timezone(timezone)
    except ExpressionInvalid:
        zone = UTC
    local = [time.astimezone(zone) for time in times]
    shape = "%Y-%m-%d %H:%M:%S" if any(time.second for time in local) else "%Y-%m-%d %H:%M"
    return (format(time, shape) for time in local)
