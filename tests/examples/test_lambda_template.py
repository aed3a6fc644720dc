"""The templates of examples/lambda: linted, and their tables and policies are the worker's."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from cfnlint.api import lint_file

from examples.lambda_function import FOLDER, imported
from examples.lambda_template import TABLES_TEMPLATE, TEMPLATE, policies, resources
from integration.policy_fault import WRITES, PolicyFault
from integration.proxy import proxy_to
from policy import POLICY, allowed
from streamer_store import open_stores_sync
from streamer_store.schema import TABLES
from support import unique_prefix

ENGINES = ["moto", pytest.param("local", marks=pytest.mark.local)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_cloudformation_accepts_the_templates(path: Any) -> None:
    """cfn-lint checks them against the schemas of CloudFormation, and finds nothing."""
    assert lint_file(path) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_of_the_template_are_those_of_the_worker(
    engine: str, request: pytest.FixtureRequest
) -> None:
    """`tables check` finds no difference, in TTL and projections neither."""
    url, prefix = request.getfixturevalue(f"{engine}_url"), unique_prefix()
    created = create_tables(url, prefix)
    with open_stores_sync(endpoint_url=url, prefix=prefix) as stores:
        assert stores.check_tables() == []
    assert sorted(created) == sorted(prefix + table.name for table in TABLES)


@pytest.mark.parametrize("is_on", ["true", "false"])
def test_protection_is_a_parameter(is_on: str) -> None:
    """Deletion protection and point-in-time recovery of all tables follow their parameters."""
    values = {"DeletionProtection": is_on, "PointInTimeRecovery": is_on}
    tables = resources(TABLES_TEMPLATE, values).values()
    assert [table["DeletionProtectionEnabled"] for table in tables] == 4 * [is_on]
    recovery = [table["PointInTimeRecoverySpecification"] for table in tables]
    assert recovery == 4 * [{"PointInTimeRecoveryEnabled": is_on}]


def test_workers_may_do_what_the_shipped_policy_allows() -> None:
    """The policy of workers is deploy/iam/worker-policy.json on this API and these tables."""
    assert allowed(policies()["WorkerPolicy"]) == allowed(POLICY)


@pytest.fixture
def tables(local_url: str) -> str:
    """Give the prefix of tables that have been created from the template."""
    prefix = unique_prefix()
    create_tables(local_url, prefix)
    return prefix


@pytest.mark.local
def test_the_function_of_connections_needs_exactly_its_policy(local_url: str, tables: str) -> None:
    """$connect, $disconnect and ping, with more subscriptions than a transaction takes."""
    with proxy_to(local_url) as proxy, imported(proxy.url, tables) as function:
        client = function.client()
        for number in range(101):
            function.stores.subscriptions.subscribe(client.connection_id, f"r{number}")
        proxy.fault = fault = PolicyFault(tables, policies()["ConnectionRole"], twice=WRITES)
        assert client.connect() == 200
        assert client.send(type="ping")[0] == 200
        assert client.call(client.event("$disconnect"))[0] == 200
        assert fault.seen == fault.allowed


@pytest.mark.local
def test_the_function_of_requests_needs_exactly_its_policy(local_url: str, tables: str) -> None:
    """The default route, a repeated request, read, subscribe and unsubscribe."""
    with proxy_to(local_url) as proxy, imported(proxy.url, tables) as function:
        client = function.client()
        proxy.fault = fault = PolicyFault(tables, policies()["RequestRole"], twice=WRITES)
        assert client.send(action="report", request_id="r1")[0] == 200
        assert client.send(action="report", request_id="r1")[0] == 200
        for type_name in ("subscribe", "read", "unsubscribe"):
            assert client.send(type=type_name, request_id="r1")[0] == 200
        assert fault.seen == fault.allowed


def test_each_route_has_a_function_that_may_do_its_work() -> None:
    """Each route of the code is in the template, and answers clients except at both ends."""
    properties = resources(TEMPLATE, {})
    routes = {each["RouteKey"]: each for each in properties.values() if "RouteKey" in each}
    targets = {key: route["Target"].rpartition("/")[2] for key, route in routes.items()}
    connections = ("$connect", "$disconnect", "ping")
    requests = ("$default", "read", "subscribe", "unsubscribe")
    expected = dict.fromkeys(connections, "${ConnectionIntegration}")
    assert targets == expected | dict.fromkeys(requests, "${RequestIntegration}")
    answered = {
        properties[each["RouteId"]]["RouteKey"]
        for each in properties.values()
        if "RouteResponseKey" in each
    }
    assert answered == set(routes) - {"$connect", "$disconnect"}


def create_tables(url: str, prefix: str) -> list[str]:
    """Create the tables as CloudFormation does, and return their names."""
    values = {"TablePrefix": prefix, "DeletionProtection": "false", "PointInTimeRecovery": "false"}
    session: Any = botocore.session.get_session()
    client = session.create_client("dynamodb", endpoint_url=url, region_name="us-east-1")
    names = []
    for properties in resources(TABLES_TEMPLATE, values).values():
        ttl = properties.pop("TimeToLiveSpecification")
        del properties["PointInTimeRecoverySpecification"]  # a call of its own, which Local lacks
        properties["DeletionProtectionEnabled"] = properties["DeletionProtectionEnabled"] == "true"
        client.create_table(**properties)
        names.append(properties["TableName"])
        client.get_waiter("table_exists").wait(TableName=names[-1])
        client.update_time_to_live(TableName=names[-1], TimeToLiveSpecification=ttl)
    client.close()
    return names
