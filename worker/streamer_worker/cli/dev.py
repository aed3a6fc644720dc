from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Final

import anyio
import typer

from streamer_store import open_stores
from streamer_store.schema import TABLES
from streamer_store.target import is_aws_endpoint
from streamer_worker.cli.options import (
    APP_DIR,
    CONFIG_VARIABLE,
    AppDirOption,
    ConfigOption,
    HandlersOption,
)
from streamer_worker.cli.output import print_error, print_line, print_styled
from streamer_worker.errors import StartError

_PORT: Final = 8155
_HOST: Final = "127.0.0.1"
# Of another DynamoDB: DynamoDB Local keeps apart what comes with other keys or regions.
_REGION: Final = "us-east-1"
# Defaults that differ from those of `run`, since nothing outside of this host is used.
_DEFAULTS: Final = {
    "STREAMER_HTTP_HOST": _HOST,
    "STREAMER_HTTP_PORT": "0",
}
# If one of these is set, there is a gateway to push to. Otherwise messages are logged.
_PUSH_TARGETS: Final = (
    "STREAMER_NOTIFIER_HOSTS",
    "STREAMER_NOTIFIER_MORE_HOSTS",
    "STREAMER_PUSH_ENDPOINT",
)
_TABLE_VARIABLES: Final = (
    "STREAMER_TABLE_PREFIX",
    *(f"STREAMER_TABLE_NAMES_{table.name.upper()}" for table in TABLES),
)


def dev(
    *,
    named: HandlersOption = None,
    app_dir: AppDirOption = APP_DIR,
    port: Annotated[
        int,
        typer.Option("--port", metavar="PORT", min=1, max=65535, help="Port of the DynamoDB."),
    ] = _PORT,
    config: ConfigOption = None,
) -> None:
    """Develop handlers without AWS: run a worker, and an empty DynamoDB in memory.

    Creates the tables, prints the line that another terminal needs, and restarts the worker when
    a .py file below --app-dir changes. Ctrl-C ends both, and the data is lost. Needs the extra
    `demo`, unless AWS_ENDPOINT_URL_DYNAMODB is the URL of a DynamoDB Local that runs.

    Messages to connections are logged (`push_logged`), unless a STREAMER_ variable names a gateway
    to push to, or sets STREAMER_PUSH.

    Settings come from STREAMER_… variables and --config. Of the file it ignores the endpoint, the
    region, the address of /metrics, and where to push. The AWS credentials are always dummies, so
    this never reaches an AWS account.

    Example: `streamer-worker dev --handlers hello:greet` for a file hello.py
    """
    from streamer_worker.cli.init import serve_as_init
    from streamer_worker.cli.loading import load_settings_of_worker
    from streamer_worker.cli.reloading import restart_on_change
    from streamer_worker.cli.run import run_in_this_process
    from streamer_worker.cli.source_files import SourceFiles
    from streamer_worker.concurrency.exits import open_standard_descriptors
    from streamer_worker.demo.environment import export_line, use_dummy_credentials
    from streamer_worker.settings import load_settings, store_arguments

    serve_as_init()
    open_standard_descriptors()
    use_dummy_credentials()
    other = _other_endpoint(port)
    shown = {} if other is None else {"STREAMER_REGION": _REGION}
    shown |= {name: text for name in _TABLE_VARIABLES if (text := os.environ.get(name))}
    if config is not None:
        shown[CONFIG_VARIABLE] = str(config.absolute())
    with _embedded(port) if other is None else _running(other) as url:
        os.environ.update(STREAMER_ENDPOINT_URL=url, STREAMER_REGION=_REGION)
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        if not any(map(os.environ.get, _PUSH_TARGETS)):
            os.environ.setdefault("STREAMER_PUSH", "log")
        # Their faults would otherwise come after each change.
        load_settings_of_worker(config, named, app_dir)
        print_styled(
            ("In another terminal, run this line, and then any command:", "bold"), err=True
        )
        print_line(f"  {export_line(url, **shown)}", err=True)
        print_line("  streamer-worker enqueue ACTION --payload '{}' --wait", err=True)
        restart_on_change(SourceFiles(app_dir))
        # From here on this is the worker.
        anyio.run(_create_tables, store_arguments(load_settings(config)))
        run_in_this_process(config, references=named, app_dir=app_dir)


async def _create_tables(arguments: dict[str, object]) -> None:
    async with open_stores(**arguments) as stores:  # type: ignore[arg-type]
        await stores.create_tables()


def _other_endpoint(port: int) -> str | None:
    """Return the URL of the DynamoDB that the environment names, unless it is our own.

    Raises StartError if it is AWS's.
    """
    for name in ("STREAMER_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        url = os.environ.get(name)
        if not url or url == _url(port):  # the line for other terminals was run in this one
            continue
        if is_aws_endpoint(url):
            raise StartError(f"dev does not use AWS: {name} is {url}:", ["unset it"])
        return url
    return None


def _url(port: int) -> str:
    return f"http://{_HOST}:{port}"


@contextmanager
def _running(url: str) -> Iterator[str]:
    print_line(f"dev: uses the DynamoDB at {url}, with dummy credentials", err=True)
    yield url


@contextmanager
def _embedded(port: int) -> Iterator[str]:
    """Serve an empty DynamoDB in a forked process until the context ends, and yield its URL.

    Raises StartError if the extra is not installed, or the port is in use.
    """
    if find_spec("moto") is None or find_spec("flask") is None:
        todo = "run pip install 'streamer-worker[demo]', or set AWS_ENDPOINT_URL_DYNAMODB to"
        raise StartError(
            "the embedded DynamoDB is not installed:", [f"{todo} the URL of a DynamoDB Local"]
        )
    with _listener(port) as listener:
        owner = os.getpid()
        engine = os.fork()
        if engine == 0:
            _serve(listener, owner)
    print_line(
        f"dev: an empty DynamoDB in memory at {_url(port)}, until Ctrl-C; nothing reaches AWS",
        err=True,
    )
    try:
        yield _url(port)
    finally:
        if os.getpid() == owner:  # and not in a worker, which was forked in this context
            os.kill(engine, signal.SIGKILL)
            os.waitpid(engine, 0)


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = "choose another with --port, or end the program that uses it"
            raise StartError(f"port {port} is in use:", [text]) from error
        raise StartError(f"port {port} cannot be used:", [str(error)]) from error
    return listener


def _serve(listener: socket.socket, owner: int) -> None:
    """Serve in this forked process. It ends when the process `owner` does."""
    from streamer_worker.concurrency.parent_death import die_with

    # The terminal sends Ctrl-C to us as well, but the worker still writes as it ends.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        die_with(owner)
        from streamer_worker.demo.moto import serve_dynamodb

        serve_dynamodb(listener)
    except Exception as error:  # noqa: BLE001  a package of the extra may be broken
        print_error("the embedded DynamoDB has failed:", [repr(error)])
    finally:
        os._exit(1)
