"""The policies: that of a worker allows what `check` tries, on exactly those tables.

The tests in `tests/integration/test_*policy.py` hold each policy against observed calls.
"""

from __future__ import annotations

import json
import re

import pytest

from policy import PREFIX, TABLE, allowed
from processes import ROOT
from streamer_store.schema import TABLES
from streamer_worker.cli.permissions import CALLS


def test_it_allows_what_is_called_and_nothing_else() -> None:
    """What `streamer-worker check` tries, and what a start asks of the tables."""
    wanted = {
        (f"dynamodb:{call}", TABLE + PREFIX + table.name)
        for table in TABLES
        for call in ("DescribeTable", "DescribeTimeToLive")
    }
    for table, calls in CALLS.items():
        for call in calls:
            operation, _, index = call.partition(" ")
            place = TABLE + PREFIX + table.name + (f"/index/{index}" if index else "")
            wanted.add((f"dynamodb:{operation}", place))
    wanted.add(("execute-api:ManageConnections", "arn:aws:execute-api:*:*:*/*/POST/@connections/*"))
    assert allowed() == wanted


@pytest.mark.parametrize("name", ["backup", "operator", "producer", "worker"])
def test_a_policy_is_one_that_iam_accepts(name: str) -> None:
    """IAM has a limit of 6,144 characters without white space, and Sids are words."""
    policy = json.loads((ROOT / "deploy" / "iam" / f"{name}-policy.json").read_text())
    assert policy["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert f"deploy/iam/{name}-policy.json" in operations
