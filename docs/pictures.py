"""Makes docs/images/*.svg, the pictures of the demo and of the commands: `python docs/pictures.py`.

The pictures of the demo are what terminals of 80 and of 120 columns show when the request of a
killed worker has gone on. Each command is run in such terminals. It needs the extra `demo`, and
takes about a minute.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from moto.backends import get_backend
from rich.console import Console, RenderableType
from rich.text import Text

from streamer_store import AsyncRequest, Priority, Stores, open_stores
from streamer_worker.cli.watching import follow
from streamer_worker.demo.environment import use_dummy_credentials
from streamer_worker.demo.moto import embedded_dynamodb
from streamer_worker.demo.scenario import run_demo
from streamer_worker.demo.view import View
from streamer_worker.demo.workers import demo_workers
from streamer_worker.handlers.references import load_reference

_FOLDER: Final = Path(__file__).parent / "images"
_WIDTHS: Final = (80, 120)
_REGION: Final = "us-east-1"
# A package with the handlers of the demo, as an installer leaves it.
_PACKAGE: Final = "shop-1.4.2.dist-info"
_HANDLERS: Final = "streamer_worker.demo.handlers"
_SETTINGS: Final = {
    "STREAMER_BATCH_WRITES": "false",  # the embedded DynamoDB has none
    "STREAMER_CONCURRENCY": "4",
    "STREAMER_HTTP_HOST": "127.0.0.1",
    "STREAMER_HTTP_PORT": "0",
    "STREAMER_PUSH": "off",
    "STREAMER_REGION": _REGION,
}
_LONG: Final = "9d41c2b7-import"
_FAILS: Final = "5b7e0a96-mail"
# By the width of the terminal, each unique by its first 8 characters.
_WATCHED: Final = {80: "c80f43d1-report", 120: "41fa7c02-report"}
_MOVES: Final = re.compile(r"(\n|\r(?!\n)|\x1b\[2K|\x1b\[1A)|\x1b\[\?25[hl]|\r(?=\n)")
_COMMANDS: Final = {
    "status": ["status"],
    "list": ["list"],
    "workers": ["workers"],
    "show": ["show", _FAILS[:8]],
    "check": ["check"],
    "watch": ["watch"],
}


class _Recorder(View):
    """Keeps the last picture, and shows none."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=_WIDTHS[0]))
        self.last: RenderableType = ""

    @property
    def is_live(self) -> bool:
        return True

    def draw(self, frame: RenderableType) -> None:
        self.last = frame


def main() -> None:
    """Make all pictures. Exits with 1 if a request of the demo did not end as expected."""
    _FOLDER.mkdir(exist_ok=True)
    use_dummy_credentials()
    anyio.run(_picture_commands)
    get_backend("dynamodb").reset()
    recorder = _Recorder()
    if not anyio.run(partial(run_demo, recorder, keep_running=False)):
        sys.exit("the demo has failed")
    for width in _WIDTHS:
        _write(f"demo-{width}", "demo", recorder.last, width=width)


async def _picture_commands() -> None:
    with tempfile.TemporaryDirectory() as folder, embedded_dynamodb() as url:
        _install(Path(folder))
        settings = _SETTINGS | {"STREAMER_ENDPOINT_URL": url, "PYTHONPATH": folder}
        async with open_stores(endpoint_url=url, region=_REGION, batch_writes=False) as stores:
            await stores.create_tables()
            async with demo_workers(("A", "B"), settings=settings, references=()):
                await _run_requests(stores)
                for name, arguments in _COMMANDS.items():
                    for width in _WIDTHS:
                        line = [*arguments]
                        if name == "watch":
                            line.append(await _enqueue_watched(stores, width))
                        shown = await anyio.to_thread.run_sync(
                            partial(_shown, line, settings, width=width)
                        )
                        _write(f"{name}-{width}", " ".join(line), shown, width=width)


def _install(folder: Path) -> None:
    """Make the package, also for this process, whose search path the workers get."""
    package = folder / _PACKAGE
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.4.2\n")
    actions = [handler.action for handler in load_reference(_HANDLERS)]
    entries = (f"{action} = {_HANDLERS}:{action}" for action in actions)
    (package / "entry_points.txt").write_text(
        "\n".join(["[streamer_worker.handlers]", *entries, ""])
    )
    sys.path.append(str(folder))


async def _run_requests(stores: Stores) -> None:
    """Run requests that end in each way, and leave two that run and one that waits."""
    ended = [
        await stores.requests.enqueue(request)
        for request in (
            *(AsyncRequest(action="echo", payload={"n": n}, user_id="ada") for n in range(8)),
            *(AsyncRequest(action="generate_report", payload={"pages": n}) for n in (2, 5)),
            AsyncRequest(action="charge_card", payload={"card": "4000 0002"}, tenant_id="acme"),
            AsyncRequest(
                action="send_mail",
                request_id=_FAILS,
                payload={"subject": "Your report is ready"},
                user_id="grace",
                tenant_id="acme",
                max_retries=1,
            ),
        )
    ]
    for request in (
        AsyncRequest(action="import_rows", request_id=_LONG, payload={"rows": 900}),
        AsyncRequest(action="bulk_update", payload={"items": 25_000}, priority=Priority.LOW),
        AsyncRequest(action="send_fax", payload={"to": "+49 30 1234"}),
    ):
        await stores.requests.enqueue(request)
    for request in ended:
        await follow(stores, request.request_id, bool)


async def _enqueue_watched(stores: Stores, width: int) -> str:
    """Enqueue a request that ends in a few seconds. Return the beginning of its id."""
    request = AsyncRequest(
        action="generate_report", request_id=_WATCHED[width], payload={"pages": 20}
    )
    await stores.requests.enqueue(request)
    return request.request_id[:8]


def _shown(arguments: list[str], settings: Mapping[str, str], *, width: int) -> Text:
    """Run the command in a terminal of this width, and return what stays on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = os.environ | settings | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "streamer_worker", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=tempfile.gettempdir(),
    ):
        os.close(theirs)
        written = _read(ours)
    return Text.from_ansi("\n".join(_lines(written.decode())).rstrip())


def _lines(written: str) -> list[str]:
    """Return the lines that are left after spinners and bars have drawn theirs again and again."""
    lines, row = [""], 0
    for part in filter(None, _MOVES.split(written)):
        match part:
            case "\n":
                row += 1
            case "\r" | "\x1b[2K":  # a line that is written again is erased before
                lines[row] = ""
            case "\x1b[1A":
                row -= 1
            case _:
                lines[row] += part
        lines += [""] * (row + 1 - len(lines))
    return lines


def _read(descriptor: int) -> bytes:
    """Read until the program at the other side of the terminal has ended."""
    chunks: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as file:
        while True:
            try:
                chunk = file.read(65_536)
            except OSError:  # EIO: no process has the terminal open
                return b"".join(chunks)
            chunks.append(chunk)


def _write(name: str, command: str, shown: RenderableType, *, width: int) -> None:
    console = Console(
        file=io.StringIO(),
        width=width,
        record=True,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(f"[green]$[/] streamer-worker {command}\n", highlight=False)
    console.print(shown)
    picture = console.export_svg(title=f"streamer-worker {command}", unique_id=name)
    (_FOLDER / f"{name}.svg").write_text(f"{picture}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
