from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

import anyio
import typer

from streamer_store import (
    AccessDenied,
    InvalidInput,
    StoreError,
    Stores,
    StoreUnavailable,
    TableMissing,
    open_stores,
)
from streamer_store.clock import new_id
from streamer_store.dynamo.opening import credentials_method
from streamer_store.engine import ConditionFailed, Delete, Engine, Present, Put, Query, Scan, Update
from streamer_store.schema import CONNECTIONS, REQUESTS, SUBSCRIPTIONS, WORKERS, Table
from streamer_worker.app import store_arguments
from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import say_in_style, tell_json
from streamer_worker.errors import StartError
from streamer_worker.handlers.registry import GROUP, load_handlers
from streamer_worker.settings import Settings, load_settings

_ATTEMPTS: Final = 2
_CALL_WITHIN: Final = 3.0
# What a worker calls, a query with its index; check_tables has tried DescribeTable and
# DescribeTimeToLive. deploy/iam/ allows the same, and
# tests/integration/test_policy.py sees workers make each of these calls.
CALLS: Final[dict[Table, tuple[str, ...]]] = {
    REQUESTS: ("GetItem", "UpdateItem", "Query StatusIndex"),
    CONNECTIONS: ("GetItem", "BatchGetItem", "DeleteItem", "Scan"),
    SUBSCRIPTIONS: ("Query ConnectionIndex", "Query RequestIndex", "BatchWriteItem"),
    WORKERS: ("PutItem", "UpdateItem", "DeleteItem", "Scan"),
}
_STYLES: Final = {"ok": "green", "warning": "yellow", "error": "bold red"}
_WIDTH: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """`todo`: what mends it."""

    level: Literal["ok", "warning", "error"]
    subject: str
    text: str
    todo: str = ""


def check(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check settings, handlers, credentials, tables and permissions: a line each, and what to do.

    It tries every call that the worker makes, so that each is refused or finds nothing; nothing
    is changed. Exits with 1 when the worker could not do its work.

    Example: `streamer-worker check --config /etc/streamer-worker/config.toml`
    """
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _print(finding)

    async def main() -> None:
        async for finding in _findings(config):
            tell(finding)

    anyio.run(main)
    if as_json:
        tell_json([asdict(each) for each in findings])
    if any(each.level == "error" for each in findings):
        raise typer.Exit(1)


async def _findings(config: ConfigOption) -> AsyncIterator[Finding]:
    try:
        settings = load_settings(config)
    except StartError as error:
        for fault in error.faults:
            yield Finding("error", "settings", fault, "see docs/settings.md")
        return
    where = settings.endpoint_url or f"AWS, region {settings.region or 'of the environment'}"
    prefix = settings.table_prefix
    yield Finding("ok", "settings", f"{settings.concurrency} slots; tables {prefix}… at {where}")
    for finding in _handlers():
        yield finding
    credentials = await _credentials()
    yield credentials
    if credentials.level == "error":
        return
    try:
        async with open_stores(
            **store_arguments(settings),
            attempts=_ATTEMPTS,
            connect_timeout=_CALL_WITHIN,
            read_timeout=_CALL_WITHIN,
        ) as stores:
            async for finding in _tables(stores):
                yield finding
            async for finding in _permissions(stores.engine):
                yield finding
    except InvalidInput as error:
        yield Finding("error", "settings", str(error), "see docs/settings.md")
        return
    yield _push(settings)


async def _credentials() -> Finding:
    todo = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give it a role"
    try:
        found = await credentials_method()
    except StoreError as error:  # a part of them, or a profile that does not exist
        return Finding("error", "credentials", error.message, todo)
    if found is None:
        return Finding("error", "credentials", "there are none", todo)
    return Finding("ok", "credentials", f"found by: {found}")


def _handlers() -> Iterator[Finding]:
    try:
        registry = load_handlers()
    except StartError as error:
        for fault in error.faults:
            yield Finding("error", "handlers", fault, "mend or remove that package")
        return
    if registry:
        yield Finding("ok", "handlers", f"{len(registry)}: {', '.join(sorted(registry))}")
    else:
        todo = f"install a package with entry points of group {GROUP}"
        yield Finding("error", "handlers", "there are none", todo)


async def _tables(stores: Stores) -> AsyncIterator[Finding]:
    try:
        differences = await stores.check_tables()
    except StoreError as error:
        yield _failed("tables", error)
        return
    for each in differences:
        todo = "streamer-worker tables create" if each.creatable else ""
        yield Finding("error" if each.blocking else "warning", "tables", str(each), todo)
    if not any(each.blocking for each in differences):
        yield Finding("ok", "tables", "keys and indexes are as the worker needs them")


async def _permissions(engine: Engine) -> AsyncIterator[Finding]:
    refused = False
    for table, calls in CALLS.items():
        name = engine.table_name(table)
        for call in calls:
            try:
                await _try(engine, call, table)
            except ConditionFailed:
                pass  # so it was allowed
            except TableMissing:
                refused = True  # told above
            except AccessDenied as error:
                refused = True
                operation, _, index = call.partition(" ")
                where = f"table/{name}/index/{index}" if index else f"table/{name}"
                todo = f"allow dynamodb:{operation} on {where}"
                yield Finding("error", "permissions", f"{name}: {call}: {error.message}", todo)
            except StoreError as error:
                yield _failed("permissions", error)
                return
    if not refused:
        count = sum(map(len, CALLS.values()))
        yield Finding("ok", "permissions", f"all {count} kinds of calls to the tables are allowed")


async def _try(engine: Engine, call: str, table: Table) -> None:
    """Make a call in a way that changes nothing."""
    nobody = new_id(random.SystemRandom())
    never = (Present("NeverThere"),)
    match call:
        case "GetItem":
            await engine.get(table, nobody)
        case "BatchGetItem":
            await engine.get_many(table, [nobody])
        case "PutItem":
            item = {table.hash_key: {"S": nobody}}
            await engine.put(Put(table=table, item=item, conditions=never))
        case "UpdateItem":
            sets = {"NeverThere": {"BOOL": True}}
            await engine.update(Update(table=table, key=nobody, sets=sets, conditions=never))
        case "DeleteItem":
            await engine.delete(Delete(table=table, key=nobody, conditions=never))
        case "BatchWriteItem":
            await engine.delete_many(table, [nobody])
        case "Scan":
            await engine.scan(Scan(table=table))
        case _:
            index = table.index(call.partition(" ")[2])
            await engine.query(Query(table=table, index=index, value=nobody, limit=1))


def _push(settings: Settings) -> Finding:
    if settings.push == "off":
        return Finding("ok", "push", "off: nobody is told")
    hosts = ", ".join(settings.notifier.hosts)
    text = f"posts to {hosts} need execute-api:ManageConnections, which cannot be tried here"
    return Finding("ok", "push", text)


def _failed(subject: str, error: StoreError) -> Finding:
    match error:
        case AccessDenied():
            todo = "look at the credentials and the policy of this worker"
        case StoreUnavailable():
            todo = "look at region, endpoint and network, then check again"
        case _:
            todo = ""
    return Finding("error", subject, str(error), todo)


def _print(finding: Finding) -> None:
    level = (f"{finding.level:<8}", _STYLES[finding.level])
    say_in_style(level, (f"{finding.subject:<{_WIDTH}} {finding.text}", ""))
    if finding.todo:
        say_in_style((f"{'':<8}{'':<{_WIDTH}} → {finding.todo}", "dim"))
