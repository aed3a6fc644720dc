"""The shipped policies, and which calls they allow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from processes import ROOT
from streamer_worker.settings import Settings

_FOLDER: Final = ROOT / "deploy" / "iam"


def _policy(name: str) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads((_FOLDER / f"{name}-policy.json").read_text())
    return policy


POLICY: Final = _policy("worker")
PRODUCER_POLICY: Final = _policy("producer")
OPERATOR_POLICY: Final = _policy("operator")
BACKUP_POLICY: Final = _policy("backup")
TABLE: Final = "arn:aws:dynamodb:*:*:table/"
PREFIX: Final[str] = Settings().table_prefix
_STATEMENT: Final = re.compile(r'(UPDATE|INSERT|DELETE)(?: INTO| FROM)? "([^"]+)"')
AwsCall = tuple[str, str]


def allowed(policy: Mapping[str, Any] = POLICY) -> set[AwsCall]:
    """Return every action that is allowed, with its resource. By default of a worker."""
    found = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            found |= {(action, resource) for action in statement["Action"]}
    return found


def calls_of(operation: str, body: Mapping[str, Any], prefix: str) -> Iterator[AwsCall]:
    """Yield what a call to DynamoDB needs, each table named as by the default prefix."""
    for statement in body.get("Statements", ()):
        verb, name = _STATEMENT.match(statement["Statement"]).groups()  # type: ignore[union-attr]
        yield f"dynamodb:PartiQL{verb.title()}", f"{TABLE}{PREFIX}{name.removeprefix(prefix)}"
    # A transaction needs the permission of each of its parts.
    for part in body.get("TransactItems", ()):
        ((kind, write),) = part.items()
        yield f"dynamodb:{kind}Item", f"{TABLE}{PREFIX}{write['TableName'].removeprefix(prefix)}"
    if "Statements" in body or "TransactItems" in body:
        return
    # Batches name several tables, as keys.
    for name in body.get("RequestItems") or [body.get("TableName", "")]:
        resource = f"{TABLE}{PREFIX}{name.removeprefix(prefix)}"
        if "IndexName" in body:
            resource = f"{resource}/index/{body['IndexName']}"
        yield f"dynamodb:{operation}", resource
