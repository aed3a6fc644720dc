"""Plugins that configure logging do not change the log of a worker."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from integration.fast import FAST, ended
from plugins import plugin
from processes import Process
from streamer_store import AsyncRequest

if TYPE_CHECKING:
    from pathlib import Path

    from streamer_store import Stores

pytestmark = pytest.mark.anyio

SECRET = "s3cret-payload"
CODE = """
    import logging, logging.config, os, sys, time
    import structlog
    from streamer_worker import handler

    class Odd(logging.LogRecord):
        def getMessage(self):
            raise RuntimeError("odd")

    def configure():
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.dev.ConsoleRenderer(
                    exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=True)
                ),
            ],
            logger_factory=structlog.PrintLoggerFactory(sys.stdout),
            cache_logger_on_first_use=True,
        )
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, force=True)
        noisy = {"level": "DEBUG", "handlers": ["out"]}
        names = ("botocore", "botocore.endpoint", "botocore.auth", "aiobotocore", "urllib3")
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": True,
                "handlers": {"out": {"class": "logging.StreamHandler", "stream": sys.stdout}},
                "loggers": {name: noisy for name in names},
                "root": noisy,
            }
        )
        logging.setLogRecordFactory(Odd)
        logging.disable(logging.CRITICAL)
        logging.disable(logging.NOTSET) if os.environ.get("WHEN") == "run" else None

    if os.environ.get("WHEN") == "import":
        configure()

    def fail(payload, ctx):
        secret = payload["secret"]
        if os.environ.get("WHEN") == "run":
            configure()
        try:
            raise ValueError("caught")
        except ValueError:
            ctx.log.exception("own_line")
        raise LookupError("uncaught")

    @handler("fail_task")
    async def fail_task(payload, ctx):
        fail(payload, ctx)

    @handler("fail_process", process=True)
    def fail_process(payload, ctx):
        fail(payload, ctx)

    @handler("after")
    async def after(payload, ctx):
        pass
"""
ENTRIES = [f"{name} = noisy:{name}" for name in ("fail_task", "fail_process", "after")]
LONG_CODE = """
    import logging, sys
    from streamer_worker import handler

    @handler("talk", process=True)
    def talk(payload, ctx):
        for _ in range(50):
            logging.getLogger("talk").warning("said", extra={"text": payload["letter"] * 9000})
            ctx.log.info("said", text=[payload["letter"] * 1500] * 6)
"""


@pytest.mark.parametrize("when", ["import", "run"])
@pytest.mark.parametrize("kind", ["task", "process"])
async def test_a_plugin_that_configures_logging(
    real: tuple[Stores, dict[str, str]], tmp_path: Path, kind: str, when: str
) -> None:
    """The worker's lines are logged all the same, and no payload is logged."""
    path = plugin(tmp_path, "noisy", CODE, *ENTRIES)
    more = {"PYTHONPATH": str(path), "WHEN": when, "STREAMER_LOG_LEVEL": "debug"}
    with Process("run", **(FAST | real[1] | more)) as worker:
        worker.event("worker_started")
        for action in (f"fail_{kind}", "after"):
            payload = {"secret": SECRET}
            request = AsyncRequest(action=action, payload=payload, max_retries=0)
            stored = await real[0].requests.enqueue(request)
            await ended(real[0], stored.request_id)
        own = worker.event("own_line", action=f"fail_{kind}")
        assert "ValueError: caught" in own["exception"]
        assert "LookupError: uncaught" in worker.event("handler_raised")["exception"]
        worker.event("request_finished", action="after", outcome="completed")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    text = "\n".join(worker.lines)
    assert SECRET not in text
    assert "Signature=" not in text


async def test_long_lines_of_several_processes_do_not_mix(
    real: tuple[Stores, dict[str, str]], tmp_path: Path
) -> None:
    """A write to a pipe is atomic up to 4 KB, so a line of 9 KB is written under a lock."""
    path = plugin(tmp_path, "long", LONG_CODE, "talk = long:talk")
    more = {"PYTHONPATH": str(path), "STREAMER_HANDLER_PROCESSES": "3"}
    with Process("run", **(FAST | real[1] | more)) as worker:
        worker.event("worker_started")
        ids = []
        for letter in "abc":
            request = AsyncRequest(action="talk", payload={"letter": letter})
            ids.append((await real[0].requests.enqueue(request)).request_id)
        await ended(real[0], *ids)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    said = [entry for line in worker.lines if (entry := json.loads(line))["event"] == "said"]
    texts = ["".join(entry["text"]) for entry in said]
    assert len(texts) == 3 * 50 * 2
    assert all(text in {letter * 9000 for letter in "abc"} for text in texts if text)
