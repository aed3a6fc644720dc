"""Shows the demo: as one picture that changes, or as plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer_store import AsyncRequest, RequestStatus
from streamer_store.transitions import TERMINAL

_STYLES: Final = {
    RequestStatus.PENDING: "dim",
    RequestStatus.PROCESSING: "cyan",
    RequestStatus.RETRYING: "yellow",
    RequestStatus.COMPLETED: "green",
    RequestStatus.FAILED: "red",
    RequestStatus.CANCELLED: "magenta",
}
_WIDTH: Final = 80
_COLUMNS: Final = (("action", 15), ("worker", 6), ("status", 10), ("progress", 14))
_TITLE: Final = "streamer-worker demo"
_SUBTITLE: Final = "two workers and an empty DynamoDB in memory, without AWS"


class View:
    """Shows captions and requests.

    On a terminal they are one picture of at most 80 columns. The requests stay in the order in
    which they were added. Elsewhere each caption is printed, and a line for each request that has
    ended or waits for its next attempt.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._caption: tuple[str, ...] = ()
        self._workers: Mapping[str, str] = {}
        self._printed: dict[str, str] = {}

    @property
    def is_live(self) -> bool:
        """Whether somebody watches a picture, and needs time to read."""
        return self._live is not None

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

    def caption(self, *lines: str) -> None:
        """Say in up to two lines what happens now."""
        self._caption = lines
        if not self.is_live:
            self.print(" ".join(lines))

    def show(self, requests: Sequence[AsyncRequest], workers: Mapping[str, str]) -> None:
        """Draw the requests anew, or print a line for each that has changed.

        workers: the name of each worker by its id.
        """
        if self.is_live:
            self.draw(self._frame(requests, workers))
            return
        for request in requests:
            line = _line(request, workers)
            if line is not None and self._printed.get(request.request_id) != line:
                self._printed[request.request_id] = line
                self.print(line)

    def draw(self, frame: RenderableType) -> None:
        """Replace the picture."""
        if self._live is not None:
            self._live.update(frame, refresh=True)

    def print(self, line: str = "") -> None:
        """Print a line below the picture."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _frame(self, requests: Sequence[AsyncRequest], workers: Mapping[str, str]) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), width=self._width())
        for name, width in _COLUMNS:
            table.add_column(name, no_wrap=True, width=width)
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        for request in requests:
            style = _STYLES.get(request.status, "")
            table.add_row(
                request.action,
                workers.get(request.worker_id or "", ""),
                Text(request.status.lower(), style=style),
                _bar(request, style),
                Text(_note(request, workers), style="dim"),
            )
        title = Text.assemble((_TITLE, "bold"), ": ", _SUBTITLE)
        caption = [Text(line, style="bold cyan", no_wrap=True) for line in self._caption]
        blank = Text("")
        return Group(title, blank, *caption, blank, table)

    def _width(self) -> int:
        return min(_WIDTH, self._console.width)


def _bar(request: AsyncRequest, style: str) -> ProgressBar:
    done = 1.0 if request.status is RequestStatus.COMPLETED else request.progress
    return ProgressBar(
        total=1.0, completed=done, width=14, complete_style=style, finished_style=style
    )


def _line(request: AsyncRequest, workers: Mapping[str, str]) -> str | None:
    """Return the line of a request that has ended or waits for a retry, None of any other."""
    if request.status not in TERMINAL and request.status is not RequestStatus.RETRYING:
        return None
    worker = workers.get(request.worker_id or "", "")
    by = f"worker {worker}" if worker else ""
    line = f"  {request.action:<15}  {request.status.lower():<9}  {by:<8}"
    return f"{line}  {_note(request, workers)}".rstrip()


def _note(request: AsyncRequest, workers: Mapping[str, str]) -> str:
    if request.error is not None:
        text = request.error
        for worker_id, name in workers.items():
            text = text.replace(worker_id, name)
        return text
    if request.status is RequestStatus.COMPLETED and request.retry_count:
        return "at its second attempt"
    return request.progress_message or ""
