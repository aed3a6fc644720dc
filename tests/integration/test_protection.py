"""Point-in-time recovery and deletion protection, on moto."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contract.table_changes import remake
from integration.deployments import Denying, Deployment, behind, deployment, fast_polls, here
from integration.proxy import Proxy, answering
from streamer_store import AccessDenied, StoreUnavailable, TableMissing
from streamer_store.dynamo import managing, protection
from streamer_store.dynamo.client import CheckedClient
from streamer_store.schema import WORKERS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_polls")]
__all__ = ["behind", "fast_polls", "here"]
ON = "point-in-time recovery: on, 35 days; deletion protection: on"
OFF = "point-in-time recovery: off; deletion protection: off"


NOT_READY = pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("UpdateTable", "ResourceInUseException"),
        ("UpdateContinuousBackups", "ContinuousBackupsUnavailableException"),
    ],
)


async def texts(here: Deployment, calls: CheckedClient | None = None) -> list[str]:
    return [str(each) for each in await protection.read(calls or here.calls, here.tables)]


async def test_both_are_enabled_on_all_tables(here: Deployment) -> None:
    """They are off at first. Then no table can be deleted."""
    assert await texts(here) == [OFF] * 4
    assert await protection.enable(here.calls, here.tables) == here.names()
    assert await texts(here) == [ON] * 4
    assert [each.table for each in await protection.read(here.calls, here.tables)] == here.names()
    for name in here.names():
        with pytest.raises(here.client.exceptions.ClientError, match="delet"):
            await here.client.delete_table(TableName=name)


async def test_enabling_again_changes_nothing(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """A recovery period that is set is kept."""
    proxy, calls = behind
    name = here.names()[0]
    days = {"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": 7}
    await here.client.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification=days
    )
    for _ in range(2):
        await protection.enable(calls, here.tables)
        assert await texts(here) == [ON.replace("35", "7"), *[ON] * 3]
        assert (proxy.calls["UpdateContinuousBackups"], proxy.calls["UpdateTable"]) == (3, 4)


async def test_two_can_enable_at_once(here: Deployment) -> None:
    """Both succeed."""
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(protection.enable, here.calls, here.tables)
    assert await texts(here) == [ON] * 4


async def test_nothing_is_protected_when_a_table_is_missing(here: Deployment) -> None:
    """The others are not changed. Those that exist are read."""
    await here.client.delete_table(TableName=here.prefix + WORKERS.name)
    with pytest.raises(TableMissing, match=f"nothing was protected.*: {here.prefix}workers"):
        await protection.enable(here.calls, here.tables)
    assert await texts(here) == [OFF] * 3


async def test_a_table_of_others_is_left_alone(here: Deployment) -> None:
    """Its key is not ours. Point-in-time recovery would cost its owner money."""
    name = here.prefix + WORKERS.name
    key = {
        "KeySchema": [{"AttributeName": "Host", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "Host", "AttributeType": "S"}],
    }
    await remake(here.client, name, **key)
    assert await protection.enable(here.calls, here.tables) == here.names()[:3]
    assert await texts(here) == [ON, ON, ON, OFF]


@NOT_READY
async def test_a_table_that_is_not_ready_is_tried_again(
    operation: str, code: str, here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """DynamoDB makes one change at a time, and enables backups after a table was created."""
    proxy, calls = behind
    proxy.fault = denying = Denying(answering(400, code), operation, times=6)
    await protection.enable(calls, here.tables)
    assert (denying.left, proxy.calls[operation]) == (0, 10)
    assert await texts(here) == [ON] * 4


@NOT_READY
async def test_a_table_that_does_not_get_ready_is_an_error(
    operation: str,
    code: str,
    here: Deployment,
    behind: tuple[Proxy, CheckedClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a time limit."""
    monkeypatch.setattr(managing, "_ENABLE_TIMEOUT", 0.05)
    monkeypatch.setattr(protection, "_UPDATE_TIMEOUT", 0.05)
    proxy, calls = behind
    proxy.fault = Denying(answering(400, code), operation)
    with pytest.raises(StoreUnavailable, match=code):
        await protection.enable(calls, here.tables)


async def test_recovery_that_may_not_be_read_is_not_known(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """Reading goes on. To enable it without the permission is an error."""
    proxy, calls = behind
    denied: Any = answering(400, "AccessDeniedException")
    proxy.fault = Denying(denied, "DescribeContinuousBackups")
    expected = "point-in-time recovery: not known: AccessDeniedException: injected; deletion"
    assert all(text.startswith(expected) for text in await texts(here, calls))
    with pytest.raises(AccessDenied):
        await protection.enable(calls, here.tables)
    for operation in ("UpdateContinuousBackups", "UpdateTable"):
        proxy.fault = Denying(denied, operation)
        with pytest.raises(AccessDenied):
            await protection.enable(calls, here.tables)


@pytest.mark.local
async def test_dynamodb_local_has_deletion_protection_only(local_url: str) -> None:
    """It has no point-in-time recovery."""
    async with deployment(local_url) as local:
        text = "point-in-time recovery: not known: the endpoint has no operation"
        read = await texts(local)
        assert len(read) == 4
        assert all(each.startswith(text) for each in read)
        assert all(each.endswith("deletion protection: off") for each in read)
        for name in local.names():
            await local.client.delete_table(TableName=name)
