"""The policy of a worker: what `check` tries, on exactly those tables.

`tests/integration/test_policy.py` holds it against the calls of real workers.
"""

from __future__ import annotations

from policy import PREFIX, TABLE, allowed
from streamer_store.schema import TABLES
from streamer_worker.cli.checking import CALLS


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
