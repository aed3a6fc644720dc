"""Draws a snapshot and its findings.

Every text from the tables passes through `one_line`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from streamer_store import RequestStatus, TableNames
from streamer_worker.cli.formatting import counted, in_one_unit
from streamer_worker.cli.output import hanging
from streamer_worker.cli.status.finding import Finding, is_healthy
from streamer_worker.cli.status.snapshot import (
    FAILURE_WINDOW,
    RATE_WINDOW,
    Depth,
    Sample,
    Snapshot,
    Worker,
    within,
)
from streamer_worker.sanitize import one_line

_ROWS: Final = 4
_FINDINGS: Final = 8
SHOWN: Final = (
    RequestStatus.PENDING,
    RequestStatus.RETRYING,
    RequestStatus.SCHEDULED,
    RequestStatus.PROCESSING,
)
"""The statuses whose requests are counted, in the order of the screen."""
_LEVEL_STYLES: Final = {"problem": "bold red", "notice": "yellow"}
_UNKNOWN: Final = "?"


def screen(snapshot: Snapshot, findings: Sequence[Finding]) -> RenderableType:
    """Return the screen. It has one line for each row, and fits the width of its console."""
    return Group(
        _headline(snapshot, findings),
        *_table_names(snapshot.target.tables),
        *_findings(findings),
        Text(),
        *_fleet(snapshot),
        Text(),
        _requests(snapshot),
        *_failures(snapshot),
    )


def error_screen(error: str) -> RenderableType:
    """Return the screen for a read that failed."""
    return Text.assemble(("error: ", "bold red"), one_line(error))


def _headline(snapshot: Snapshot, findings: Sequence[Finding]) -> RenderableType:
    target = snapshot.target
    where = f"{target.endpoint} ({target.region})"
    if target.tables.prefix is not None:
        where = f"{target.tables} at {where}"
    problems = sum(1 for finding in findings if finding.level == "problem")
    if is_healthy(findings):
        verdict = Text("ok", style="bold green")
    else:
        verdict = Text(counted(problems, "problem"), style="bold red")
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(no_wrap=True)
    line.add_row(
        Text.assemble(verdict, "  ", one_line(where)), Text(f"{snapshot.now:%H:%M:%S} UTC", "dim")
    )
    return line


def _table_names(names: TableNames) -> list[RenderableType]:
    """Return a line with the names, unless the headline has their prefix."""
    return [hanging(Text("tables   "), str(names), "dim")] if names.prefix is None else []


def _findings(findings: Sequence[Finding]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for finding in findings[:_FINDINGS]:
        lines.append(
            hanging(
                Text(f"{finding.level:<9}", _LEVEL_STYLES[finding.level]), one_line(finding.text)
            )
        )
        if finding.todo:
            lines.append(hanging(Text(f"{'':<7}→ ", "dim"), one_line(finding.todo), "dim"))
    if len(findings) > _FINDINGS:
        lines.append(Text(f"... and {len(findings) - _FINDINGS} more (--json)", "dim"))
    return lines


def _fleet(snapshot: Snapshot) -> list[RenderableType]:
    if snapshot.workers is None:
        return [_title("workers", "cannot be read")]
    live = snapshot.live
    used = sum(worker.row.in_flight for worker in live)
    slots = sum(worker.row.concurrency for worker in live)
    parts = [f"{len(live)} alive"]
    if snapshot.silent:
        parts.append(f"{len(snapshot.silent)} silent")
    if draining := sum(1 for worker in live if worker.drains):
        parts.append(f"{draining} draining")
    if live:
        parts.append(f"{counted(slots, 'slot')}, {counted(used, 'request')} in them")
    title = _title("workers", ", ".join(parts))
    shown = sorted(snapshot.workers, key=lambda worker: (worker.beating, -worker.row.in_flight))
    table = _grid(6)
    for worker in shown[:_ROWS]:
        table.add_row(*_worker_cells(worker))
    lines: list[RenderableType] = [title]
    if shown:
        lines.append(Padding(table, (0, 0, 0, 2)))
    if len(shown) > _ROWS:
        lines.append(
            Text(f"  ... and {len(shown) - _ROWS:,} more (streamer-worker workers)", "dim")
        )
    return lines


def _worker_cells(worker: Worker) -> list[Text]:
    row = worker.row
    state, style = "working", "green"
    if not worker.beating:
        state, style = "silent", "bold red"
    elif worker.drains:
        state, style = "draining", "yellow"
    beat = "" if worker.silence is None else f"beat {in_one_unit(worker.silence)} ago"
    return [
        Text(state, style),
        Text(f"{row.in_flight}/{row.concurrency}", justify="right"),
        Text(beat),
        Text(one_line(row.release, 20)),
        Text(one_line(f"{row.host}:{row.pid}", 60)),
        Text(one_line(row.worker_id, 60), "dim"),
    ]


def _requests(snapshot: Snapshot) -> RenderableType:
    table = _grid(5)
    table.add_row(
        Text("requests", "bold"),
        Text("now", "dim", justify="right"),
        Text("oldest", "dim", justify="right"),
        Text("later", "dim", justify="right"),
        Text("  ended in the last 5 minutes, about", "dim"),
    )
    rates = (
        _rate("completed", snapshot.completed, snapshot),
        _rate("failed", snapshot.failed, snapshot),
        Text(),
        Text(),
    )
    for status, rate in zip(SHOWN, rates, strict=True):
        depth = snapshot.depths.get(status)
        table.add_row(Text(f"  {status}"), *_depth_cells(depth, snapshot), rate)
    return table


def _depth_cells(depth: Depth | None, snapshot: Snapshot) -> list[Text]:
    if depth is None:
        return [Text(_UNKNOWN, justify="right"), Text(), Text()]
    oldest = (
        "" if depth.oldest is None else in_one_unit((snapshot.now - depth.oldest).total_seconds())
    )
    later = _number(depth.later, more=depth.later_more) if depth.later else ""
    return [
        Text(_number(depth.count, more=depth.more), justify="right"),
        Text(oldest, justify="right"),
        Text(later, justify="right"),
    ]


def _number(count: int, *, more: bool) -> str:
    return f">{count:,}" if more else f"{count:,}"


def _rate(name: str, sample: Sample | None, snapshot: Snapshot) -> Text:
    if sample is None:
        return Text(f"  {name:<9} {_UNKNOWN:>8}")
    over = sample.reach(snapshot.now, RATE_WINDOW)
    text = f"  {name:<9} {sample.per_minute(snapshot.now):>8,.1f} a minute"
    return Text(text if over == RATE_WINDOW else f"{text}, over {in_one_unit(over)}")


def _failures(snapshot: Snapshot) -> list[RenderableType]:
    if snapshot.failed is None:
        return [Text(), _title("failures", "cannot be read")]
    failures = snapshot.recent_failures()
    if not failures:
        return [Text(), _title("failures", "none in the last hour")]
    total = len(within(snapshot.failed, snapshot.now, FAILURE_WINDOW))
    number = f"{total} or more" if is_cut(snapshot) else str(total)
    table = _grid(4)
    for failure in failures[:_ROWS]:
        table.add_row(
            Text(f"{failure.count:,}", justify="right"),
            Text(one_line(failure.action, 60)),
            Text(one_line(failure.code or "no code", 60), "red"),
            Text(one_line(failure.example, 60), "dim"),
        )
    lines: list[RenderableType] = [
        Text(),
        _title("failures", f"{number} in the last hour, by action and code, with the latest id"),
        Padding(table, (0, 0, 0, 2)),
    ]
    if len(failures) > _ROWS:
        lines.append(Text(f"  ... and {len(failures) - _ROWS} more kinds (--json)", "dim"))
    return lines


def is_cut(snapshot: Snapshot) -> bool:
    """Return whether the last hour had more failures than were read."""
    sample = snapshot.failed
    return sample is not None and sample.reach(snapshot.now, FAILURE_WINDOW) < FAILURE_WINDOW


def _title(name: str, text: str) -> Text:
    return Text.assemble((name, "bold"), "  ", one_line(text))


def _grid(columns: int) -> Table:
    """Return a table without lines. Cells that do not fit are cut."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column(no_wrap=True, overflow="ellipsis")
    return table
