"""What an operator sees of a request that has failed before."""

from __future__ import annotations

from typing import Any

from integration.desk import Desk, desk
from plugins import plugin
from processes import Process

__all__ = ["desk"]

HANDLERS = """
    from datetime import timedelta
    from streamer_worker import RetryPolicy, handler

    class NoRows(Exception):
        pass

    AT_ONCE = RetryPolicy(first=0.01, longest=0.01)

    @handler("report", retry=AT_ONCE)
    async def report(payload, ctx):
        if ctx.attempt < 3:
            raise NoRows(f"in attempt {ctx.attempt}")

    @handler("export", process=True, retry=AT_ONCE)
    def export(payload, ctx):
        raise NoRows("in its process")
"""


def test_show_has_the_attempts_that_failed(desk: Desk, tmp_path: Any) -> None:
    """As a table, and whole in JSON: also of handlers in processes, and after a success."""
    path = plugin(
        tmp_path, "reports", HANDLERS, "report = reports:report", "export = reports:export"
    )
    more = {"PYTHONPATH": str(path), "STREAMER_HTTP_PORT": "0"}
    with Process("run", **(desk.settings | more)) as worker:
        worker_id = worker.event("worker_started")["worker_id"]
        desk.enqueue("r1", action="report")
        desk.enqueue("r2", action="export", max_retries=0)
        assert desk.run("watch", "r1", "--every", "0.1").exit_code == 0
        desk.run("watch", "r2", "--every", "0.1", code=1)
    fields = desk.json("show", "r1")
    assert fields["status"] == "COMPLETED"
    assert [
        (each["number"], each["worker_id"], each["error_class"], each["error"])
        for each in fields["attempts"]
    ] == [(1, worker_id, "NoRows", "in attempt 1"), (2, worker_id, "NoRows", "in attempt 2")]
    shown = desk.run("show", "r1").stdout.splitlines()
    first, second = shown[shown.index("failed attempts") + 2 :][:2]
    assert first.endswith("\tNoRows: in attempt 1")
    assert second.startswith("2\t")
    (attempt,) = desk.json("show", "r2")["attempts"]
    assert (attempt["outcome"], attempt["error_class"]) == ("failed", "NoRows")
