"""The findings of `check`, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from streamer_store import AccessDenied, StoreError, StoreUnavailable
from streamer_worker.cli.faults import text_of
from streamer_worker.cli.output import print_hanging

NETWORK_TODO: Final = "check the region, the endpoint and the network, then try again"
_STYLES: Final = {"ok": "green", "warning": "yellow", "error": "bold red"}
_LEVEL_WIDTH: Final = 8
_SUBJECT_WIDTH: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `todo` says how to fix it, if that is known."""

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str
    todo: str = ""


def store_failure(subject: str, error: StoreError) -> Finding:
    """Return the finding for a call of the store that has failed."""
    match error:
        case AccessDenied():
            todo = "check the credentials and the IAM policy of this worker"
        case StoreUnavailable():
            todo = NETWORK_TODO
        case _:
            todo = ""
    return Finding("error", subject, text_of(error), todo)


class FindingPrinter:
    """Prints findings as they come, and each `todo` once, below the findings that share it."""

    def __init__(self) -> None:
        self._todo = ""
        self._printed: set[str] = set()

    def show(self, finding: Finding) -> None:
        """Print the finding. Its `todo` waits until a finding with another one comes."""
        if finding.todo != self._todo:
            self.finish()
        self._todo = finding.todo
        level = (f"{finding.level:<{_LEVEL_WIDTH}}", _STYLES[finding.level])
        print_hanging((level, (f"{finding.subject:<{_SUBJECT_WIDTH}} ", "")), finding.text)

    def finish(self) -> None:
        """Print the `todo` that waits, unless it was printed before."""
        if self._todo and self._todo not in self._printed:
            indent = " " * (_LEVEL_WIDTH + _SUBJECT_WIDTH)
            print_hanging([(f"{indent} → ", "dim")], self._todo, "dim")
            self._printed.add(self._todo)
        self._todo = ""
