"""The policy of a worker: exactly the calls that it makes, on exactly those tables."""

from __future__ import annotations

import json
from typing import Any

from processes import ROOT
from streamer_store.schema import TABLES
from streamer_worker.cli.checking import CALLS
from streamer_worker.settings import Settings

POLICY: dict[str, Any] = json.loads((ROOT / "deploy" / "iam" / "worker-policy.json").read_text())
TABLE = f"arn:aws:dynamodb:*:*:table/{Settings().table_prefix}"


def allowed() -> set[tuple[str, str]]:
    """Return what may be called on what."""
    found = set()
    for statement in POLICY["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            found |= {(action, resource) for action in statement["Action"]}
    return found


def test_it_allows_what_is_called_and_nothing_else() -> None:
    """What `streamer-worker check` tries, and what a start asks of the tables."""
    wanted = {
        (f"dynamodb:{call}", TABLE + table.name)
        for table in TABLES
        for call in ("DescribeTable", "DescribeTimeToLive")
    }
    for table, calls in CALLS.items():
        for call in calls:
            operation, _, index = call.partition(" ")
            place = f"{TABLE}{table.name}/index/{index}" if index else TABLE + table.name
            wanted.add((f"dynamodb:{operation}", place))
    wanted.add(("execute-api:ManageConnections", "arn:aws:execute-api:*:*:*/*/POST/@connections/*"))
    assert allowed() == wanted
