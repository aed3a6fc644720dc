"""The templates of examples/lambda, with the intrinsic functions that the tests need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from cfnlint.decode import decode

from examples.lambda_function import FOLDER
from policy import PREFIX, TABLE
from streamer_store.schema import TABLES

_VARIABLE: Final = re.compile(r"\$\{([\w:.]+)\}")
TEMPLATE: Final = FOLDER / "template.yaml"
TABLES_TEMPLATE: Final = FOLDER / "tables.yaml"
# As in deploy/iam: any Region, account, API and stage.
_VALUES: Final = {
    "AWS::Partition": "aws",
    "AWS::Region": "*",
    "AWS::AccountId": "*",
    "Api": "*",
    "StageName": "*",
    "Logs.Arn": "logs",
    **{f"Tables.Outputs.{table.name.title()}": TABLE + PREFIX + table.name for table in TABLES},
}


def resources(template: Any, values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the properties of the resources of a template by their logical ids.

    values: by the names in `!Ref`, `!GetAtt` and `!Sub`. Other names remain.
    """
    found, _ = decode(str(template))
    return {
        name: _resolved(resource.get("Properties", {}), values)
        for name, resource in found["Resources"].items()
    }


def policies() -> dict[str, dict[str, Any]]:
    """Return each policy of the template, with the resources of deploy/iam, without the logs."""
    properties = resources(TEMPLATE, _VALUES)
    documents = {"WorkerPolicy": properties["WorkerPolicy"]["PolicyDocument"]}
    for role in ("ConnectionRole", "RequestRole"):
        (policy,) = properties[role]["Policies"]
        documents[role] = policy["PolicyDocument"]
    return {
        name: {"Statement": [each for each in document["Statement"] if each["Resource"] != "logs"]}
        for name, document in documents.items()
    }


def _resolved(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case {"Ref": str(name)}:
            return values.get(name, name)
        case {"Fn::GetAtt": name}:
            joined = name if isinstance(name, str) else ".".join(name)
            return values.get(joined, joined)
        case {"Fn::Sub": str(text)}:
            return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)
        case Mapping():
            return {str(key): _resolved(entry, values) for key, entry in value.items()}
        case list():
            return [_resolved(entry, values) for entry in value]
        case str():
            return str(value)
    return value
