from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, cast

import anyio
import typer

from streamer_store import (
    InvalidInput,
    StoreError,
    Stores,
    SystemClock,
    open_stores,
)
from streamer_store.engine import (
    BatchEngine,
)
from streamer_store.release import package_version
from streamer_worker.cli.addresses import (
    Sources,
    configured_address,
    endpoint_finding,
    region_finding,
    target_finding,
)
from streamer_worker.cli.findings import NETWORK_TODO, Finding, FindingPrinter, store_failure
from streamer_worker.cli.options import (
    APP_DIR,
    AppDirOption,
    ConfigOption,
    HandlersOption,
    JsonOption,
)
from streamer_worker.cli.output import print_json
from streamer_worker.cli.pause_texts import end_command, pause_text
from streamer_worker.cli.permissions import permission_findings
from streamer_worker.errors import HandlerLoadError, StartError

if TYPE_CHECKING:
    from streamer_store.dynamo.addressing import Address
    from streamer_worker.handlers.registry import Registry
    from streamer_worker.settings import ScheduleSettings, Settings

_ATTEMPTS: Final = 2
_CALL_TIMEOUT: Final = 3.0
_SETTINGS_TODO: Final = "see docs/settings.md"
_AWS_TODO: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or attach a role"
)
# botocore's names for the sources of credentials that say little.
_METHODS: Final = {"env": "environment variables", "iam-role": "the role of this instance"}


def check(
    *,
    named: HandlersOption = None,
    app_dir: AppDirOption = APP_DIR,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the settings, handlers, credentials, tables and permissions of a worker.

    The schedules are checked with the handlers. Prints one line for each check, and how to fix
    what is wrong. It makes every DynamoDB call that a worker makes. Writes go to keys that do not
    exist, under conditions that fail, so nothing is changed. Exits with 1 if a worker could not
    run.

    Example: `streamer-worker check --config /etc/streamer-worker/config.toml`
    """
    from streamer_worker.cli.loading import find_handlers

    findings: list[Finding] = []
    load = partial(find_handlers, named, app_dir)
    printer = FindingPrinter()

    async def main() -> None:
        async for finding in _findings(config, load):
            findings.append(finding)
            if not as_json:
                printer.show(finding)

    anyio.run(main)
    printer.finish()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


async def _findings(config: ConfigOption, load: Callable[[], Registry]) -> AsyncIterator[Finding]:
    from streamer_worker.settings import load_settings

    try:
        settings = load_settings(config)
    except StartError as error:
        for fault in error.faults:
            yield Finding("error", "settings", fault, _SETTINGS_TODO)
        for finding in _handlers(load, None):
            if finding.level == "error":  # what is right may be otherwise with the settings
                yield finding
        return
    release = package_version("streamer-worker")
    prefix = settings.tables.prefix
    tables = f"tables {settings.tables}" if prefix is None else f"table prefix {prefix!r}"
    in_force = f"concurrency {settings.concurrency}, {tables}"
    yield Finding("ok", "settings", f"release {release}, {in_force}")
    for finding in _handlers(load, settings):
        yield finding
    sources = Sources(config)
    try:
        address = configured_address(settings)
    except InvalidInput as error:
        yield Finding("error", "credentials", error.message, _AWS_TODO)
        return
    region = region_finding(address, sources)
    yield region
    credentials = await _credentials(address)
    if "error" in {region.level, credentials.level}:
        yield endpoint_finding(*address.endpoint, sources)
        yield credentials
        return
    async for finding in _database(settings, credentials, sources):
        yield finding
    yield _push(settings)


async def _database(
    settings: Settings, credentials: Finding, sources: Sources
) -> AsyncIterator[Finding]:
    from streamer_worker.settings import store_arguments

    try:
        async with open_stores(
            **store_arguments(settings) | {"batch_writes": False},
            attempts=_ATTEMPTS,
            connect_timeout=_CALL_TIMEOUT,
            read_timeout=_CALL_TIMEOUT,
        ) as stores:
            assert stores.target is not None  # noqa: S101  only stores in memory have none
            yield target_finding(stores.target, sources)
            yield credentials
            async for finding in _tables(stores):
                yield finding
                if finding.todo == NETWORK_TODO:
                    return  # each other call would fail for the same reason
            engine = cast("BatchEngine", stores.engine)
            async for finding in permission_findings(engine, batches=settings.batch_writes):
                yield finding
            async for finding in _pauses(stores):
                yield finding
    except InvalidInput as error:
        yield Finding("error", "settings", error.message, _SETTINGS_TODO)


async def _credentials(address: Address) -> Finding:
    from streamer_store.dynamo.connecting import credentials_method

    try:
        method = await credentials_method(region=address.region.value)
    except StoreError as error:  # half of a key pair, or a profile that does not exist
        return Finding("error", "credentials", error.message, _AWS_TODO)
    if method is None:
        return Finding("error", "credentials", "no AWS credentials found", _AWS_TODO)
    return Finding("ok", "credentials", f"found by {_METHODS.get(method, method)}")


def _handlers(load: Callable[[], Registry], settings: Settings | None) -> Iterator[Finding]:
    """Check the handlers and their schedules. settings: None if they are not valid."""
    from streamer_worker.handlers.registry import (
        INSTALL_HANDLERS,
        NO_HANDLERS,
        distributions_of,
    )

    try:
        registry = load()
    except HandlerLoadError as error:
        for fault in error.faults:
            yield Finding("error", "handlers", fault, "fix that module, or uninstall its package")
        # A schedule in the settings may be that of a handler that cannot be loaded.
        yield from _schedules({}, error.loaded)
        return
    if registry:
        packages = ", ".join(distributions_of(registry)) or "no installed package"
        actions = ", ".join(sorted(registry))
        yield Finding("ok", "handlers", f"{len(registry)}: {actions}, from {packages}")
    else:
        yield Finding("error", "handlers", NO_HANDLERS, INSTALL_HANDLERS)
    yield from _schedules({} if settings is None else settings.schedules, registry)
    if settings is not None:
        yield from _action_settings(settings, registry)


def _schedules(settings: Mapping[str, ScheduleSettings], registry: Registry) -> Iterator[Finding]:
    """Yield a finding for each fault, or one that names the schedules if there are any."""
    from streamer_worker.schedules.resolving import resolve_schedules

    try:
        schedules = resolve_schedules(settings, registry)
    except StartError as error:
        for fault in error.faults:
            yield Finding("error", "schedules", fault, "see docs/scheduling.md")
        return
    if schedules:
        yield Finding("ok", "schedules", f"{len(schedules)}: {', '.join(sorted(schedules))}")


def _action_settings(settings: Settings, registry: Registry) -> Iterator[Finding]:
    """Yield a finding for each action whose settings do not fit its handler, or that has none."""
    from streamer_worker.intake.action_settings import (
        unused_action_settings,
        with_action_settings,
    )

    try:
        with_action_settings(registry, settings)
    except StartError as error:
        for fault in error.faults:
            yield Finding("error", "settings", fault, _SETTINGS_TODO)
    for action, nearest in unused_action_settings(registry, settings).items():
        hint = f"; the nearest is {nearest}" if nearest else ""
        text = f"actions.{action}: no handler has this action{hint}"
        yield Finding("warning", "settings", text, "correct the name, or remove the settings")


async def _tables(stores: Stores) -> AsyncIterator[Finding]:
    try:
        differences = await stores.check_tables()
    except StoreError as error:
        yield store_failure("tables", error)
        return
    for difference in differences:
        level: Literal["error", "warning"] = "error" if difference.blocking else "warning"
        todo = "run `streamer-worker tables create`" if difference.creatable else ""
        yield Finding(level, "tables", str(difference), todo)
    if not any(difference.blocking for difference in differences):
        account = await stores.account()
        place = f"of AWS account {account} " if account else ""
        text = f"the tables {place}have the keys and indexes that a worker needs"
        yield Finding("ok", "tables", text)


async def _pauses(stores: Stores) -> AsyncIterator[Finding]:
    """Yield a warning for each pause: a worker that starts claims nothing of it."""
    try:
        pauses = await stores.pauses.read_all()
    except StoreError:
        return  # the checks of the tables and of the permissions have reported it
    now = SystemClock().now()
    for pause in pauses:
        if not pause.is_over(now):
            todo = f"{end_command(pause)} ends it"
            yield Finding("warning", "pauses", pause_text(pause), todo)


def _push(settings: Settings) -> Finding:
    if settings.push == "off":
        return Finding("ok", "push", "off: connections are not notified")
    if settings.push == "log":
        return Finding("ok", "push", "log: messages are logged, and connections are not notified")
    hosts = settings.push_endpoint or ", ".join(settings.notifier.allowed_hosts)
    text = f"posts to {hosts} need execute-api:ManageConnections, which this command cannot check"
    return Finding("ok", "push", text)
