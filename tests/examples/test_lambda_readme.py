"""examples/lambda/README.md: its authorizer runs, and its tables have what the code has."""

from __future__ import annotations

import re
from typing import Any

from examples.lambda_function import FOLDER, imported
from examples.lambda_template import TEMPLATE, resources
from streamer_store import open_stores_sync
from support import unique_prefix

README = (FOLDER / "README.md").read_text()
CODE = "".join(path.read_text() for path in FOLDER.glob("*.py"))


def authorize(token: str) -> dict[str, Any]:
    """Return what the authorizer of the page answers."""
    block = re.search(r"<!-- example: authorizer -->\n```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)  # noqa: S102  the page is ours
    arn = "arn:aws:execute-api:eu-west-1:123456789012:abc123/prod/$connect"
    event = {"type": "REQUEST", "methodArn": arn, "queryStringParameters": {"token": token}}
    answer: dict[str, Any] = names["authorize"](event, None)
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Resource"] == arn
    return answer | {"effect": statement["Effect"]}


def test_the_authorizer_names_the_user_of_a_connection(moto_url: str) -> None:
    """API Gateway merges the context of its answer with the user. A wrong token is denied."""
    prefix = unique_prefix()
    answer = authorize("a-token-of-ada")
    assert (answer["effect"], authorize("another")["effect"]) == ("Allow", "Deny")
    with open_stores_sync(endpoint_url=moto_url, prefix=prefix) as stores:
        stores.create_tables()
    with imported(moto_url, prefix) as function:
        client = function.client(answer["principalId"], **answer["context"])
        assert client.connect() == 200
        stored = function.stores.connections.get(client.connection_id)
    assert (stored.user_id, stored.tenant_id) == ("ada", "acme")


def test_the_page_has_each_route_code_and_variable() -> None:
    """Nothing is missing on the page, and nothing there is unknown to the code."""
    first_columns = re.findall(r"^\| (.*?) \|", README, re.MULTILINE)
    named = set(re.findall(r"`([$\w]+)`", " ".join(first_columns)))
    codes = set(re.findall(r'Refused\(\s*\d+,\s*"(\w+)"', CODE))
    variables = set(re.findall(r'environ\.get\("(\w+)"', CODE))
    routes = {each["RouteKey"] for each in resources(TEMPLATE, {}).values() if "RouteKey" in each}
    assert named == codes | variables | routes | {"STREAMER_TABLE_PREFIX"}
