"""Shows the demo's requests, as a live table or as plain lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer_store import AsyncRequest, RequestStatus

_STYLES = {
    RequestStatus.PENDING: "dim",
    RequestStatus.PROCESSING: "cyan",
    RequestStatus.COMPLETED: "green",
    RequestStatus.FAILED: "red",
}
_ORDER = (RequestStatus.PROCESSING, RequestStatus.FAILED, RequestStatus.PENDING)
_MIN_ROWS = 5
# Lines of the terminal that are not rows of the table.
_OTHER_LINES = 6


class View:
    """Shows requests: as a live table on a terminal, otherwise as one line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._printed: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, requests: Sequence[AsyncRequest]) -> None:
        """Redraw the table, or print a line for each request that has changed."""
        if self._live is not None:
            self._live.update(_frame(requests, self._console.height), refresh=True)
            return
        for request in requests:
            line = _line(request)
            if self._printed.get(request.request_id) != line:
                self._printed[request.request_id] = line
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def summary(self, counts: Mapping[str, int], lines: Sequence[str]) -> None:
        """Print the number of requests by status, and then the lines."""
        text = ", ".join(f"{count} {status.lower()}" for status, count in sorted(counts.items()))
        self._console.print(f"In the table: {text}", highlight=False)
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _line(request: AsyncRequest) -> str:
    prefix = f"{request.request_id[:8]} {request.action:<16} {request.user_id:<6}"
    if request.status is RequestStatus.PROCESSING:
        return f"{prefix} {request.status} {request.progress:4.0%} {request.progress_message or ''}"
    return f"{prefix} {request.status} {request.error or ''}".rstrip()


def _frame(requests: Sequence[AsyncRequest], height: int) -> Group:
    counts = Counter(request.status for request in requests)
    head = Text("  ").join(
        Text(f"{counts[status]} {status.lower()}", style=style) for status, style in _STYLES.items()
    )
    table = Table(box=None, padding=(0, 1), expand=False)
    for column in ("request", "action", "user", "tenant", "status", "progress", ""):
        table.add_column(column, no_wrap=True)
    rank = {status: place for place, status in enumerate(_ORDER)}
    ordered = sorted(requests, key=lambda request: rank.get(request.status, len(rank)))
    shown = max(_MIN_ROWS, height - _OTHER_LINES)
    for request in ordered[:shown]:
        table.add_row(
            request.request_id[:8],
            request.action,
            request.user_id,
            request.tenant_id,
            Text(request.status, style=_STYLES.get(request.status, "")),
            ProgressBar(total=1.0, completed=request.progress, width=20),
            Text(request.error or request.progress_message or "", style="dim"),
        )
    hidden = len(ordered) - shown
    more = Text(f"  and {hidden} more" if hidden > 0 else "", style="dim")
    return Group(head, table, more)
