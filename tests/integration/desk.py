"""Tables on moto, and operators' commands on them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner, Result

from processes import command
from streamer_store import (
    AsyncRequest,
    Stores,
    open_stores,
)
from streamer_worker.cli.main import cli
from support import unique_prefix

HANDLER = """
    from pathlib import Path
    import anyio
    from streamer_worker import handler

    @handler("steps")
    async def steps(payload, ctx):
        # The second step waits until the file `until` is there, if the payload names one.
        await ctx.progress(0.25, "step 1")
        while "until" in payload and not Path(payload["until"]).exists():
            await anyio.sleep(0.05)
        await ctx.progress(0.75, "step 2")
"""


class Desk:
    """Tables of its own on moto, and commands that run on them."""

    def __init__(self, url: str) -> None:
        self.settings = {
            "STREAMER_ENDPOINT_URL": url,
            "STREAMER_TABLE_PREFIX": unique_prefix(),
            "STREAMER_BATCH_WRITES": "false",
        }

    def run(self, *arguments: str, code: int = 0) -> Result:
        ended = CliRunner().invoke(cli, [*arguments], env=self.settings)
        assert ended.exit_code == code, ended.output
        return ended

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def answered(self, answer: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a terminal on which the answer is typed."""
        controller, terminal = pty.openpty()
        try:
            os.write(controller, answer.encode())
            return command(*arguments, stdin=terminal, **self.settings)
        finally:
            os.close(controller)
            os.close(terminal)

    def ids(self, *arguments: str) -> list[str]:
        return [fields["request_id"] for fields in self.json("list", *arguments)]

    def do(self, work: Callable[[Stores], Awaitable[Any]]) -> Any:
        """Run `work` on the stores, and return its result."""

        async def main() -> Any:
            async with open_stores(
                endpoint_url=self.settings["STREAMER_ENDPOINT_URL"],
                prefix=self.settings["STREAMER_TABLE_PREFIX"],
                batch_writes=False,
            ) as stores:
                return await work(stores)

        return anyio.run(main)

    def enqueue(self, *ids: str, ago: float = 0, **fields: Any) -> None:
        fields.setdefault("action", "a")
        created = datetime.now(UTC) - timedelta(seconds=ago)
        requests = [
            AsyncRequest(request_id=request_id, created_at=created, **fields) for request_id in ids
        ]
        self.do(lambda stores: stores.requests.enqueue_many(requests))

    def fail(self, *ids: str) -> None:
        async def work(stores: Stores) -> None:
            for claim in await stores.requests.dequeue(len(ids)):
                assert claim.request_id in ids
                await stores.requests.fail(claim, "it broke\x1b[31m", "BROKEN")

        self.do(work)


@pytest.fixture
def desk(moto_url: str) -> Desk:
    desk = Desk(moto_url)
    desk.do(lambda stores: stores.create_tables())
    return desk


def lines(path: Path, *requests: dict[str, Any] | str) -> str:
    """Write a file of JSON Lines, and return its path."""
    texts = [text if isinstance(text, str) else json.dumps(text) for text in requests]
    path.write_text("\n".join(texts) + "\n")
    return str(path)


def statuses(desk: Desk) -> dict[str, str]:
    return {fields["request_id"]: fields["status"] for fields in desk.json("list")}
