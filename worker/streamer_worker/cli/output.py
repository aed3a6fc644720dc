"""The only module of the CLI that prints.

Requests, connections and workers contain text from outside. Every text passes through `one_line`
or `json_text` here, so that a control character cannot forge a line and a long text cannot fill
screens.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import typer
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import Progress, ProgressColumn
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from streamer_worker.cli.columns import Cell, Column, shortened
from streamer_worker.json_values import to_json
from streamer_worker.sanitize import ERROR_CHARS, one_line

# The longest text of a cell, except in the first column.
CELL_CHARS: Final = 200
# An id has up to 2,048 bytes. A line or a first cell that is an id must be whole, to be copied.
_LINE_CHARS: Final = 3_000
# The most columns of a terminal that an id takes. A UUID takes 8, as long as that is unique.
_ID_COLUMNS: Final = 32

StyledText = tuple[str, str]


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line, on stderr if `err`."""
    typer.echo(one_line(text, _LINE_CHARS), err=err)


def print_styled(*parts: StyledText, err: bool = False) -> None:
    """Print one line made of parts. Each part is a text and its rich style."""
    styled = Text.assemble(*((one_line(text), style) for text, style in parts))
    Console(stderr=err, soft_wrap=True).print(styled)


def print_hanging(label: Sequence[StyledText], text: str, style: str = "") -> None:
    """Print a text after its label. A terminal that is too narrow wraps it beside the label."""
    if is_terminal():
        print_screen(hanging(Text.assemble(*label), one_line(text), style))
    else:
        print_styled(*label, (text, style))


def hanging(label: Text, text: str, style: str = "") -> RenderableType:
    """Return a text that wraps beside its label. The caller passes it through `one_line`."""
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(label, Text(text, style))
    return grid


def print_error(headline: str, details: Iterable[str] = ()) -> None:
    """Print an error on stderr, with one indented line for each detail."""
    print_styled(("error: ", "bold red"), (headline, ""), err=True)
    for detail in details:
        print_line(f"  {detail}", err=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON. `indent=None` prints it on one line."""
    typer.echo(json_text(value, indent=indent))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in which every character that cannot be printed is escaped.

    Letters of all languages are not escaped. Nothing is truncated.
    """
    text = json.dumps(value, indent=indent, default=_to_json, ensure_ascii=False)
    # json escapes line breaks inside strings, so a line break here is layout.
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def _to_json(value: object) -> Any:
    """Convert binary values and sets as pushed messages do, and anything else to text.

    So a Decimal keeps all of its digits.
    """
    return to_json(value) if isinstance(value, bytes | set | frozenset) else str(value)


def print_table(
    names: Iterable[str], rows: Iterable[Iterable[str]], *, cell_chars: int = CELL_CHARS
) -> None:
    """Print a table whose cells are whole, up to `cell_chars` characters.

    On a terminal the first column, which is to be copied, never wraps. The others wrap if the
    terminal is narrow. Elsewhere it is as `print_rows` prints it.
    """
    first, *rest = names
    cells = [_cells(row, cell_chars) for row in rows]
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        _print_separated((first, *rest), cells)
        return
    whole = RichColumn(first, min_width=max((cell_len(row[0]) for row in cells), default=0))
    columns = (whole, *(RichColumn(name, overflow="fold") for name in rest))
    table = Table(*columns, box=None, pad_edge=False)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def print_rows(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    shorten: Callable[[Sequence[str]], Mapping[str, str]] | None = shortened,
) -> None:
    """Print one line for each row, and the names of the columns as the first line.

    The first column holds ids.

    - On a terminal each line fits: ids are as `shorten` returns them, by id, and whole for None.
      Other texts end with an ellipsis.
    - Elsewhere nothing is cut below 2,000 characters, a tab separates the cells, and `-` is an
      empty one.
    """
    console = Console()
    width = console.width if console.is_terminal else None
    texts = [[_text_of(cell) for cell in row] for row in rows]
    shown = [
        position
        for position, column in enumerate(columns)
        if column.is_shown(width, (row[position] for row in texts))
    ]
    if width is None:
        cells = ([row[position] for position in shown] for row in texts)
        names = (columns[position].name for position in shown)
        _print_separated(names, (_cells(row, ERROR_CHARS) for row in cells))
        return
    ids = [row[0] for row in texts]
    shown_ids = dict(zip(ids, ids, strict=True)) if shorten is None else shorten(ids)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position in shown:
        column = columns[position]
        table.add_column(column.name, no_wrap=not column.can_cut, overflow="ellipsis")
    for row in rows:
        table.add_row(
            _id_text(shown_ids[_text_of(row[0])]), *(_cell_text(row[each]) for each in shown[1:])
        )
    console.print(table)


def print_fields(
    fields: Iterable[tuple[str, Cell]], *, limit: int | None = ERROR_CHARS, width: int = 0
) -> None:
    """Print one line for each name and its text. Texts are truncated at `limit` characters.

    Only a terminal wraps them. `width`: the fewest columns that the names take.
    """
    console = Console()
    rows = [(name, _text_of(cell), _style_of(cell)) for name, cell in fields]
    lines = [
        (name, one_line(text, len(text) if limit is None else limit), style)
        for name, text, style in rows
    ]
    width = max((width, *(len(name) for name, _, _ in lines)))
    if not console.is_terminal:
        for name, text, _ in lines:
            typer.echo(f"{name:<{width}}  {text}".rstrip())
        return
    table = Table.grid(
        RichColumn(min_width=width, no_wrap=True), RichColumn(overflow="fold"), padding=(0, 2)
    )
    for name, text, style in lines:
        table.add_row(Text(name, style="bold"), Text(text, style=style))
    console.print(table)


def print_empty_line() -> None:
    """Print an empty line between two parts of the output."""
    typer.echo()


def _print_separated(names: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    typer.echo("\t".join(names))
    for row in rows:
        typer.echo("\t".join(text or "-" for text in row))


def _id_text(short: str) -> Text:
    text = Text(one_line(short, CELL_CHARS), no_wrap=True)
    text.truncate(_ID_COLUMNS, overflow="ellipsis")
    return text


def _cell_text(cell: Cell) -> Text:
    text = one_line(_text_of(cell), CELL_CHARS)
    return Text(text, style=_style_of(cell), no_wrap=True, overflow="ellipsis")


def _text_of(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style_of(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def spinner(text: str) -> AbstractContextManager[Any]:
    """Show `text` on stderr while the command works, if stderr is a terminal."""
    return Console(stderr=True).status(Text(one_line(text)))


@contextmanager
def status_spinner(text: str) -> Iterator[Callable[[str, str], None]]:
    """Show `text` and the states of things on stderr while the command works.

    Yields a function that is called with the name of a thing and its state. On a terminal the
    states are behind the text. Elsewhere, each change of a state is a line.
    """
    states: dict[str, str] = {}
    is_shown = Console(stderr=True).is_terminal
    with spinner(text) as shown:

        def on_status(name: str, state: str) -> None:
            if states.get(name) == state:
                return
            states[name] = state
            counts = ", ".join(
                f"{count} {each}" for each, count in Counter(states.values()).items()
            )
            if is_shown:
                shown.update(Text(one_line(f"{text}: {counts}")))
            else:
                print_line(f"{name}: {state}", err=True)

        yield on_status


def progress_bar(
    *columns: ProgressColumn, err: bool = False, transient: bool = False, expand: bool = False
) -> Progress:
    """Return a progress bar, which shows nothing without a terminal.

    The caller passes each text of its fields through `one_line`.
    """
    console = Console(stderr=err)
    return Progress(
        *columns,
        console=console,
        transient=transient,
        expand=expand,
        disable=not console.is_terminal,
    )


def print_screen(content: RenderableType) -> None:
    """Print lines that rich draws. The caller passes each text in them through `one_line`."""
    Console().print(content)


def live_screen() -> Live:
    """Return a part of the terminal whose content `update` replaces.

    The caller passes each text of the content through `one_line`.
    """
    return Live(console=Console(), auto_refresh=False, vertical_overflow="ellipsis")


def is_terminal(*, err: bool = False) -> bool:
    """Return whether stdout, or stderr, can show a progress bar."""
    return Console(stderr=err).is_terminal


def confirm_many(question: str, *, yes: bool, without_terminal: str) -> None:
    """Ask the question on the terminal, unless `yes` is set.

    Exits with 1 if the answer is no. Exits with 2 if there is no terminal, after printing the
    question and `without_terminal`, which says what to do instead.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        print_error(f"{question} There is no terminal to ask on: {without_terminal}")
        raise typer.Exit(2)
    typer.echo(f"{one_line(question)} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        print_error("nothing was changed")
        raise typer.Exit(1)


def _cells(row: Iterable[str], cell_chars: int) -> Sequence[str]:
    first, *rest = row
    return [one_line(first, _LINE_CHARS), *(one_line(text, cell_chars) for text in rest)]
