"""The only module of the CLI that prints.

Requests, connections and workers are written by others, so every text passes through `one_line`
or `json_text` here: a control character cannot forge a line, and a long text cannot fill screens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Column, Table
from rich.text import Text

from streamer_worker.sanitize import ERROR_CHARS, one_line

# The longest text of a cell. The first cell of a row is its id, there to be copied.
CELL_CHARS: Final = 200
# An id has up to 2,048 bytes, and a line of ids is there to be copied, too.
_LINE_CHARS: Final = 3_000
_ID_CHARS: Final = 300

Part = tuple[str, str]


def say(text: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(one_line(text, _LINE_CHARS), err=err)


def say_in_style(*parts: Part, err: bool = False) -> None:
    """Print one line of parts, each a text and its rich style."""
    styled = Text.assemble(*((one_line(text), style) for text, style in parts))
    Console(stderr=err, soft_wrap=True).print(styled)


def fail(headline: str, details: Iterable[str] = ()) -> None:
    """Print an error on stderr, each detail on a line of its own."""
    say_in_style(("error: ", "bold red"), (headline, ""), err=True)
    for detail in details:
        say(f"  {detail}", err=True)


def tell_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON: over several lines, or on one with `indent=None`."""
    typer.echo(json_text(value, indent=indent))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in which every character that cannot be printed is escaped.

    Letters of all languages stay as they are. Nothing is cut.
    """
    text = json.dumps(value, indent=indent, default=str, ensure_ascii=False)
    # A line break is never inside a string here: json escapes those.
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def print_table(
    names: Iterable[str], rows: Iterable[Iterable[str]], *, cell_chars: int = CELL_CHARS
) -> None:
    """Print rows of text under their names.

    The first column is there to be copied: in a narrow terminal the others wrap, it does not.
    """
    first, *rest = names
    cells = [_cells(row, cell_chars) for row in rows]
    whole = Column(first, min_width=max((len(row[0]) for row in cells), default=0))
    table = Table(
        whole, *(Column(name, overflow="fold") for name in rest), box=None, pad_edge=False
    )
    for row in cells:
        table.add_row(*map(Text, row))
    Console(soft_wrap=True).print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print each name and its text, which is cut at 2,000 characters."""
    table = Table.grid(padding=(0, 2))
    for name, text in fields:
        table.add_row(Text(name, style="bold"), Text(one_line(text, ERROR_CHARS)))
    Console(soft_wrap=True).print(table)


def status(text: str) -> AbstractContextManager[Any]:
    """Show on stderr, where it is a terminal, what the command is doing."""
    return Console(stderr=True).status(Text(one_line(text)))


def progress_bar(*columns: ProgressColumn, err: bool = False, transient: bool = False) -> Progress:
    """Return a bar. A text of its fields has to pass through `one_line`."""
    return Progress(*columns, console=Console(stderr=err), transient=transient)


def is_terminal() -> bool:
    """Return whether somebody sees a bar on stdout."""
    return Console().is_terminal


def confirm_many(question: str, *, yes: bool, instead: str) -> None:
    """Ask before many things are changed; `yes` is the answer given in advance.

    Leaves with 1 when the answer is no, and with 2 when there is nobody to ask: `instead` then
    says what to do.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        fail(f"{question} There is no terminal to ask: {instead}")
        raise typer.Exit(2)
    typer.echo(f"{one_line(question)} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        fail("nothing was changed")
        raise typer.Exit(1)


def print_any_text() -> None:
    """Let stdout take every character, also where its encoding lacks some."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _cells(row: Iterable[str], cell_chars: int) -> Sequence[str]:
    first, *rest = row
    return [one_line(first, _ID_CHARS), *(one_line(text, cell_chars) for text in rest)]
