"""Makes docs/images/demo.svg, the picture of the demo in the README: `python docs/pictures.py`.

The picture is what a terminal of 80 columns shows when the request of a killed worker has gone on.
It needs the extra `demo`, and takes about 20 s.
"""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console, RenderableType

from streamer_worker.demo.scenario import run_demo
from streamer_worker.demo.view import View

_COLUMNS = 80
_FOLDER = Path(__file__).parent / "images"


class _Recorder(View):
    """Keeps the last picture, and shows none."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=_COLUMNS))
        self.last: RenderableType = ""

    @property
    def is_live(self) -> bool:
        return True

    def draw(self, frame: RenderableType) -> None:
        self.last = frame


def main() -> None:
    """Run the demo and write the picture. Exits with 1 if a request did not end as expected."""
    recorder = _Recorder()
    if not anyio.run(partial(run_demo, recorder, keep_running=False)):
        sys.exit("the demo has failed")
    console = Console(
        file=io.StringIO(),
        width=_COLUMNS,
        record=True,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print("[green]$[/] streamer-worker demo\n")
    console.print(recorder.last)
    _FOLDER.mkdir(exist_ok=True)
    picture = console.export_svg(title="streamer-worker demo", unique_id="demo")
    (_FOLDER / "demo.svg").write_text(f"{picture}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
