"""The shipped policy of backups against the calls of the commands, recorded by a proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from integration.deployments import Slow
from integration.desk import Desk, desk
from integration.proxy import Forward, answering, operation_of, proxy_to
from policy import BACKUP_POLICY, PREFIX, TABLE, AwsCall, allowed
from support import unique_prefix

__all__ = ["desk"]
_DENY = answering(400, "AccessDeniedException")
# DynamoDB Developer Guide, "Using IAM with DynamoDB backup and restore": a restore needs them on
# the new table, though nobody calls them.
_FOR_RESTORES = {
    f"dynamodb:{action}"
    for action in (
        *("BatchWriteItem", "DeleteItem", "GetItem", "PutItem"),
        *("Query", "Scan", "UpdateItem"),
    )
}


class BackupPolicyFault(Slow):
    """Refuses calls that the policy denies, and records all. Backups take some time."""

    def __init__(self, prefix: str, to: str) -> None:
        super().__init__(1)
        self._prefixes = {prefix: PREFIX, to: "restored_"}
        self._allowed = allowed(BACKUP_POLICY)
        self.seen: set[AwsCall] = set()

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        calls = set(self._calls(operation_of(request), json.loads(await request.read())))
        self.seen |= calls
        if calls <= self._allowed:
            return await super().__call__(request, forward)
        return await _DENY(request, forward)

    def _calls(self, operation: str, body: dict[str, Any]) -> Iterator[AwsCall]:
        action = f"dynamodb:{operation}"
        if operation == "ListBackups":  # has no resource
            yield action, "*"
            return
        for name in (body.get("TableName"), body.get("TargetTableName")):
            if name is not None:
                yield action, self._resource(name)
        if "BackupArn" in body:
            table = body["BackupArn"].split("/")[1]
            yield action, f"{self._resource(table)}/backup/*"

    def _resource(self, name: str) -> str:
        for prefix, shipped in self._prefixes.items():
            if name.startswith(prefix):
                return f"{TABLE}{shipped}{name.removeprefix(prefix)}"
        return f"{TABLE}{name}"


def test_backups_need_exactly_the_allowed_calls(desk: Desk) -> None:
    """They protect and check the tables, create, list, restore and delete a backup."""
    to = unique_prefix()
    fault = BackupPolicyFault(desk.settings["STREAMER_TABLE_PREFIX"], to)
    with proxy_to(desk.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        desk.settings["STREAMER_ENDPOINT_URL"] = proxy.url
        proxy.fault = fault
        desk.run("tables", "create", "--protect")
        desk.run("tables", "check")
        desk.run("backup", "create", "nightly")
        desk.run("backup", "restore", "nightly", "--to", to, "--protect")
        desk.run("backup", "list")
        desk.run("backup", "delete", "nightly", "--yes")
    unused = allowed(BACKUP_POLICY) - fault.seen
    assert fault.seen <= allowed(BACKUP_POLICY)
    assert {action for action, _ in unused} == _FOR_RESTORES
    assert all(resource.startswith(f"{TABLE}restored_") for _, resource in unused)
