from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final

import typer

from streamer_store import (
    ConcurrentModification,
    NotFound,
    Pause,
    PauseKind,
    Stores,
    SystemClock,
    WorkerRow,
)
from streamer_store.pause import OF_ACTIONS
from streamer_worker.cli.columns import WIDE, Cell, Column
from streamer_worker.cli.formatting import age, counted
from streamer_worker.cli.live_workers import live_rows, unknown_action
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    YesOption,
    with_stores,
)
from streamer_worker.cli.output import confirm_many, print_json, print_line, print_rows
from streamer_worker.cli.pause_arguments import (
    PauseForOption,
    PauseUntilOption,
    ReasonOption,
    end_of_pause,
    operator,
)
from streamer_worker.cli.pause_texts import pause_end, pause_fields, pause_name, paused_text

_COLUMNS: Final = (
    Column(name="paused", can_cut=True),
    Column(name="since"),
    Column(name="until"),
    Column(name="by", can_cut=True, from_width=WIDE),
    Column(name="reason", can_cut=True),
)
_WITHOUT_TERMINAL: Final = "give --yes, or name an --action or a --tenant."
_TRIES: Final = 5
_LISTED: Final = 5

ActionsOption = Annotated[
    list[str] | None,
    typer.Option("--action", metavar="ACTION", help="This action. Repeat it for several."),
]
TenantsOption = Annotated[
    list[str] | None,
    typer.Option("--tenant", metavar="ID", help="This tenant. Repeat it for several."),
]


def pause(
    *,
    actions: ActionsOption = None,
    tenants: TenantsOption = None,
    until: PauseUntilOption = None,
    for_: PauseForOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Pause actions, tenants or everything: workers start none of their requests.

    Requests that run go on. The others wait as they are until `resume`, or until the time given.
    It works from each worker's next heartbeat on (4 s), and for workers that start later.
    Without --action and --tenant everything is paused, after a question. Exits with 1 if the
    answer is no, and with 2 if there is no terminal to ask on.

    Example: `streamer-worker pause --action report --for 2h --reason "database upgrade"`
    """
    from streamer_worker.settings import load_settings

    now = SystemClock().now()
    ends = end_of_pause(until, for_, now)
    targets = _targets(actions, tenants) or [(PauseKind.ALL, "")]
    if targets == [(PauseKind.ALL, "")]:
        question = "Pause all requests of all workers?"
        confirm_many(question, yes=yes, without_terminal=_WITHOUT_TERMINAL)
    by = operator()
    new = [
        Pause(kind=kind, name=name, by=by, at=now, until=ends, reason=reason)
        for kind, name in targets
    ]

    async def work(stores: Stores) -> tuple[list[Pause | None], list[WorkerRow]]:
        replaced = [await stores.pauses.start(each) for each in new]
        return replaced, await stores.workers.list()

    replaced, rows = with_stores(config, work)
    live = live_rows(rows, now, lease=load_settings(config).presence.lease)
    warnings = _warnings(new, live)
    for warning in warnings:
        print_line(f"warning: {warning}", err=True)
    if as_json:
        print_json([pause_fields(each) for each in new])
        return
    for each, old in zip(new, replaced, strict=True):
        print_line(paused_text(each, old, now))


def resume(
    *,
    actions: ActionsOption = None,
    tenants: TenantsOption = None,
    all_: Annotated[bool, typer.Option("--all", help="End all pauses, also of schedules.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """End pauses: the requests start at once.

    For an action this also ends what a handler held back (RetryLater) or a fuse has paused.
    Without options it ends the pause of everything. Exits with 1 if nothing of this is paused.

    Example: `streamer-worker resume --action report`
    """
    targets = _targets(actions, tenants)
    if all_ and targets:
        raise typer.BadParameter("--all cannot be combined with --action and --tenant")

    def is_meant(pause: Pause) -> bool:
        kind = PauseKind.ACTION if pause.kind in OF_ACTIONS else pause.kind
        return all_ or (kind, pause.name) in (targets or [(PauseKind.ALL, "")])

    ended, left = with_stores(config, partial(_end_all, is_meant=is_meant))
    if not ended and not all_:
        names = ", ".join(name for _, name in targets) or "everything"
        raise NotFound(f"not paused: {names}", operation="resume")
    if as_json:
        print_json([pause_fields(each) for each in ended])
        return
    for each in ended:
        print_line(f"resumed {pause_name(each)}")
    if not ended:
        print_line("nothing is paused")
    if left:
        print_line(f"still paused: {', '.join(map(pause_name, left))}")


def pauses(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what is paused, since when, until when, by whom and why.

    Operators pause everything, actions, tenants and schedules. A hold is the pause of an action
    that a handler asked for (RetryLater). A fuse is the pause of an action that failed too often:
    it is probed until one of its requests succeeds.

    Example: `streamer-worker pauses --json`
    """

    async def work(stores: Stores) -> list[Pause]:
        return await stores.pauses.read_all()

    clock = SystemClock()
    found = [each for each in with_stores(config, work) if not each.is_over(clock.now())]
    if as_json:
        print_json([pause_fields(each) for each in found])
    elif found:
        print_rows(_COLUMNS, [_cells(each, clock) for each in found])
    else:
        print_line("nothing is paused")


async def _end_all(
    stores: Stores, *, is_meant: Callable[[Pause], bool]
) -> tuple[list[Pause], list[Pause]]:
    """End the pauses that are meant. Return those that were ended, and the others in force.

    Those that were over by themselves are deleted, too, and not returned.
    """
    now = SystemClock().now()
    ended: dict[str, Pause] = {}
    for _ in range(_TRIES):
        found = await stores.pauses.read_all()
        meant = [pause for pause in found if is_meant(pause)]
        if not meant:
            return [each for each in ended.values() if not each.is_over(now)], [
                each for each in found if not each.is_over(now)
            ]
        for pause in meant:
            if await stores.pauses.end(pause):
                ended[pause.key] = pause
    raise ConcurrentModification("others pause it all the time", operation="resume")


def _targets(
    actions: Sequence[str] | None, tenants: Sequence[str] | None
) -> list[tuple[PauseKind, str]]:
    named = [(PauseKind.ACTION, name) for name in actions or ()]
    named += [(PauseKind.TENANT, name) for name in tenants or ()]
    return list(dict.fromkeys(named))


def _warnings(pauses: Sequence[Pause], live: Sequence[WorkerRow]) -> list[str]:
    """Return what an operator should know about pauses that were written (pure)."""
    found = []
    if live:
        unknown = (unknown_action(live, each.name) for each in pauses if each.kind in OF_ACTIONS)
        found = [f"{text}. It is paused all the same" for text in unknown if text is not None]
    old = [row for row in live if not row.pauses]
    if old:
        shown = ", ".join(f"{row.worker_id} ({row.release})" for row in old[:_LISTED])
        more = ", …" if len(old) > _LISTED else ""
        found.append(
            f"{counted(len(old), 'live worker')} of an older release know no pauses, and go on:"
            f" {shown}{more}"
        )
    return found


def _cells(pause: Pause, clock: SystemClock) -> tuple[Cell, ...]:
    until = pause_end(pause).removeprefix("until ")
    return pause_name(pause), age(pause.at, clock), until, pause.by, pause.reason
