"""Programs start fast: what is slow to import is imported only by what uses it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streamer_worker
from processes import environment
from streamer_worker.cli import options
from streamer_worker.settings import CONFIG_VARIABLE

# A client of AWS: 0.3 s of CPU.
CLIENT = {"aiobotocore", "aiohttp", "botocore"}
# What a worker needs besides: 0.1 s of CPU.
WORKER = {"prometheus_client", "streamer_worker.app"}
# What commands need that read settings or load handlers: 0.15 s of CPU.
COMMANDS = {"pydantic_settings", "streamer_worker.handlers.definition", "structlog"}

# What commands need that print tables, or open stores: 0.1 s of CPU.
OUTPUT = {"anyio", "asyncio", "rich.progress", "streamer_store", "importlib.metadata"}

CHILD = "import streamer_worker.execution.processes.child"
STORE = "import streamer_store, random; c = streamer_store.SystemClock(); "
AUTHOR = "from streamer_worker import Context, Handler, RetryLater, SyncContext, handler"


def run(*arguments: str) -> str:
    return f"""
from streamer_worker.cli import main
sys.argv[1:] = {list(arguments)}
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def complete(line: str) -> str:
    """Return the code that a shell runs when TAB is pressed at the end of the line."""
    words = len(line.split()) - 1
    return f"""
import os
os.environ |= {{"_STREAMER_WORKER_COMPLETE": "complete_bash"}}
os.environ |= {{"COMP_WORDS": {line!r}, "COMP_CWORD": "{words}"}}
{run()}
"""


def imported_by(code: str) -> set[str]:
    """Return the modules that a Python which runs the code has imported at its end."""
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import sys\n{code}\nprint('', *sys.modules, sep='\\n')"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split("\n"))


@pytest.mark.parametrize(
    ("code", "slow"),
    [
        pytest.param("import streamer_worker", CLIENT | WORKER | COMMANDS, id="worker"),
        pytest.param(AUTHOR, CLIENT | WORKER | {"pydantic_settings"}, id="handlers"),
        pytest.param(
            STORE + "streamer_store.memory_stores(clock=c, rng=random.Random())",
            CLIENT | {"pydantic", "structlog"},
            id="memory stores",
        ),
        pytest.param(run("--help"), CLIENT | WORKER | COMMANDS | OUTPUT, id="--help"),
        pytest.param(run("run", "--help"), CLIENT | WORKER | COMMANDS, id="help of run"),
        pytest.param(run("list", "--help"), CLIENT | WORKER | COMMANDS, id="help of a command"),
        pytest.param(run("--version"), CLIENT | WORKER | COMMANDS, id="--version"),
        pytest.param(
            complete("streamer-worker li"),
            CLIENT | WORKER | COMMANDS | OUTPUT - {"importlib.metadata"},
            id="TAB",
        ),
        pytest.param(
            complete("streamer-worker list --status f"), CLIENT | WORKER | COMMANDS, id="TAB status"
        ),
        # The AWS settings decide what is not set. botocore alone reads them.
        pytest.param(run("config"), CLIENT - {"botocore"} | WORKER, id="config"),
        pytest.param(run("handlers"), CLIENT | WORKER, id="handlers command"),
        pytest.param(CHILD, CLIENT | WORKER | {"streamer_worker.events"}, id="child"),
    ],
)
def test_what_is_slow_is_imported_by_what_needs_it(code: str, slow: set[str]) -> None:
    """A client of AWS by what opens one, the worker by `run`, settings by what reads them."""
    assert imported_by(code) & slow == set()


def test_the_names_are_right() -> None:
    """The modules that the other test looks for are those that a worker imports."""
    modules = imported_by("import streamer_worker.cli.run, streamer_store.dynamo.connecting")
    assert modules >= CLIENT | WORKER | COMMANDS | OUTPUT | {"pydantic", "streamer_worker.events"}


@pytest.mark.parametrize("name", streamer_worker.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    """The package imports a name when it is used. dir() lists it before."""
    assert name in dir(streamer_worker)
    assert getattr(streamer_worker, name).__module__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any other module."""
    with pytest.raises(AttributeError, match="module 'streamer_worker' has no attribute 'nothing'"):
        _ = streamer_worker.nothing  # type: ignore[attr-defined]


def test_the_option_and_the_settings_mean_the_same_variable() -> None:
    """The option does not import the settings for its name."""
    assert options.CONFIG_VARIABLE == CONFIG_VARIABLE
