"""Makes docs/images/gateway.png, and checks the page of examples/gateway: needs Chromium.

    python docs/gateway_picture.py

Two users work in one headless Chromium. It exits with 1 and a traceback if the page does not show
what it should. It is no test, because CI has no browser.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Final

import aiohttp
import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

_ROOT: Final = Path(__file__).parent.parent
_PICTURE: Final = _ROOT / "docs" / "images" / "gateway.png"
_PATIENCE: Final = 30.0
_WIDTH, _HEIGHT = 800, 680
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_MAX_LINE: Final = 10_000


class Tab:
    """A page in the browser, driven by the DevTools protocol."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, session: str = "", context: str = ""
    ) -> None:
        self._socket = socket
        self._session = session
        self._context = context
        self._ids = count(1)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == number and answer.get("sessionId", "") == self._session:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    async def open(self, url: str, *, beside: Tab | None = None) -> Tab:
        """Return a new tab, with a storage of its own or with that of the tab `beside` it."""
        context = (
            beside._context  # noqa: SLF001
            if beside
            else str((await self.call("Target.createBrowserContext"))["browserContextId"])
        )
        target = await self.call(
            "Target.createTarget",
            url=url,
            browserContextId=context,
            newWindow=True,
            width=_WIDTH,
            height=_HEIGHT,
        )
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        return Tab(self._socket, attached["sessionId"], context)

    async def run(self, script: str) -> Any:
        """Return the value of an expression in the page. Raises RuntimeError for an exception."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true."""
        with anyio.fail_after(_PATIENCE):
            # A page that loads has none of the elements yet.
            while not await self.run(f"(() => {{ try {{ return {script} }} catch {{}} }})()"):  # noqa: ASYNC110
                await anyio.sleep(0.05)

    async def send(self, action: str, payload: dict[str, Any]) -> str:
        """Fill in the form, click on Send, and return the request's id."""
        await self.run(f"by('action').value = {json.dumps(action)}")
        await self.run(f"by('payload').value = {json.dumps(json.dumps(payload))}")
        await self.run("document.querySelector('#new button').click()")
        return str(await self.run("document.querySelector('code').textContent"))

    async def until_status(self, request_id: str, status: str) -> None:
        await self.until(f"requests.get('{request_id}').status === '{status}'")

    async def until_moved(self, request_id: str, *, above: int = 0) -> None:
        """Wait until the bar of a request is above so many percent, and not at its end."""
        bar = f"requests.get('{request_id}').card.querySelector('progress').value"
        await self.until(f"{bar} > {above} && {bar} < 100")


async def main() -> None:
    with tempfile.TemporaryDirectory() as profile:
        async with (
            _started(
                sys.executable,
                str(_ROOT / "examples" / "gateway" / "run.py"),
                "--port=0",
                line=r"^Open (http://\S+) ",
            ) as url,
            _started(
                _browser(),
                *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
                f"--user-data-dir={profile}",
                line=r"^DevTools listening on (ws://\S+)",
            ) as devtools,
            aiohttp.ClientSession() as session,
            session.ws_connect(devtools, max_msg_size=0) as socket,
        ):
            await _use(Tab(socket), url)


async def _use(browser: Tab, url: str) -> None:
    """Use the page as two users, and take the picture of the first."""
    ada, grace = await browser.open(f"{url}/#ada"), await browser.open(f"{url}/#grace")
    beside = await browser.open(f"{url}/#ada", beside=ada)
    for tab in (ada, grace, beside):
        await tab.until("by('state').textContent === 'connected'")

    rows = await ada.send("import_rows", {"rows": 60})
    await ada.until_moved(rows)
    await ada.call("Page.reload")  # in the middle of the request
    await ada.until_status(rows, "PROCESSING")
    await ada.run("socket.close()")
    await ada.until("by('state').textContent === 'connecting again'")
    await ada.until("by('state').textContent === 'connected'")

    await grace.run(f"by('other').value = '{rows}'")
    await grace.run("document.querySelector('#follow button').click()")
    await grace.until("by('note').textContent.startsWith('NOT_FOUND')")
    for text in ("[]", "{", json.dumps({"text": "x" * 200_000})):
        await grace.run(f"by('payload').value = {json.dumps(text)}")
        await grace.run("document.querySelector('#new button').click()")
        await grace.until("by('note').textContent.startsWith('the payload')")
    assert await grace.run("requests.size") == 0  # noqa: S101

    mail = await ada.send("send_mail", {"to": "ada@example.com"})
    await ada.until_status(mail, "COMPLETED")
    card = await ada.send("charge_card", {"card": "…4000"})
    await ada.until_status(card, "FAILED")
    await ada.until_moved(rows, above=60)  # again, from the new connection
    report = await ada.send("generate_report", {"pages": 20})
    await ada.until_moved(report, above=30)
    shot = await ada.call("Page.captureScreenshot", format="png")
    await anyio.Path(_PICTURE).write_bytes(base64.b64decode(shot["data"]))
    for request_id in (rows, report):
        await ada.until_status(request_id, "COMPLETED")
        await beside.until_status(request_id, "COMPLETED")


def _browser() -> str:
    for name in _BROWSERS:
        if path := shutil.which(name):
            return path
    sys.exit(f"there is no browser: install one of {', '.join(_BROWSERS)}")


@asynccontextmanager
async def _started(*command: str, line: str) -> AsyncIterator[str]:
    """Run a program, and yield the first group of a line that it prints when it is ready."""
    async with await anyio.open_process(
        command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    ) as process:
        assert process.stdout is not None  # noqa: S101
        with anyio.fail_after(_PATIENCE):
            lines = BufferedByteReceiveStream(process.stdout)
            match = None
            while match is None:
                text = (await lines.receive_until(b"\n", _MAX_LINE)).decode()
                match = re.search(line, text)
        try:
            yield match.group(1)
        finally:
            process.terminate()
            with anyio.CancelScope(shield=True):
                await process.wait()


if __name__ == "__main__":
    anyio.run(main)
