"""Shows the demo: as one picture that changes, or as plain lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
_RETRIED: Final = frozenset({"retried", "rescued"})
_TITLE: Final = "streamer-worker demo"
_SUBTITLE: Final = "two workers and an empty DynamoDB in memory, without AWS"


class View:
    """Shows captions and requests.

    On a terminal they are one picture of at most 80 columns. The requests stay in the order in
    which they were added. Elsewhere each caption is printed, and a line for each attempt that is
    followed by another, and for each request that has ended.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._caption: tuple[str, ...] = ()
        self._workers: Mapping[str, str] = {}
        # How many lines were printed, by request.
        self._printed: Counter[str] = Counter()

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
            lines = list(_lines(request, workers))
            for line in lines[self._printed[request.request_id] :]:
                self.print(line)
            self._printed[request.request_id] = len(lines)

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


def _lines(request: AsyncRequest, workers: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each attempt that was followed by another, and one for the end.

    The attempts tell of a retry that began and ended between two looks at the request.
    """
    for attempt in request.attempts:
        if attempt.outcome in _RETRIED:
            note = _with_names(attempt.error or "", workers)
            yield _line(request.action, RequestStatus.RETRYING, "", note)
    if request.status in TERMINAL:
        worker = workers.get(request.worker_id or "", "")
        by = f"worker {worker}" if worker else ""
        yield _line(request.action, request.status, by, _note(request, workers))


def _line(action: str, status: RequestStatus, by: str, note: str) -> str:
    return f"  {action:<15}  {status.lower():<9}  {by:<8}  {note}".rstrip()


def _with_names(text: str, workers: Mapping[str, str]) -> str:
    for worker_id, name in workers.items():
        text = text.replace(worker_id, name)
    return text


def _note(request: AsyncRequest, workers: Mapping[str, str]) -> str:
    if request.error is not None:
        return _with_names(request.error, workers)
    if request.status is RequestStatus.COMPLETED and request.retry_count:
        return "at its second attempt"
    return request.progress_message or ""
