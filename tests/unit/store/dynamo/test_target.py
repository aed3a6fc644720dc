"""The tables, the endpoint and the region in force, and where they come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from streamer_store import InvalidInput, TableNames, Target, memory_stores, open_stores
from streamer_store.schema import REQUESTS, TABLES, WORKERS
from streamer_store.target import without_password
from support import client_of
from unit.store.dynamo.recorder import Recorder

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:1"
ELSEWHERE = "http://127.0.0.1:2"
BY_PREFIX = dict.fromkeys((table.name for table in TABLES), "STREAMER_TABLE_PREFIX")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all settings but dummy credentials."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "STREAMER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "dummy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dummy")


async def target(**arguments: Any) -> Target:
    """Open stores, and return their target, which is what the client says of itself."""
    async with open_stores(**arguments) as stores:
        found = stores.target
        assert found is not None
        meta = client_of(stores.engine).meta
        assert (found.endpoint, found.region) == (meta.endpoint_url, meta.region_name)
        assert stores.engine.table_name(WORKERS) == found.tables.workers
        return found


async def test_a_producer_uses_the_tables_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the worker hold for `open_stores` without arguments."""
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", "prod_")
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("STREAMER_REGION", "eu-north-1")
    assert await target() == Target(
        endpoint=NOWHERE,
        endpoint_source="STREAMER_ENDPOINT_URL",
        region="eu-north-1",
        region_source="STREAMER_REGION",
        prefix="prod_",
        prefix_source="STREAMER_TABLE_PREFIX",
        tables=TableNames.from_prefix("prod_"),
        table_sources=BY_PREFIX,
    )


async def test_arguments_override_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty prefix is an argument, too."""
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", "prod_")
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("STREAMER_REGION", "eu-north-1")
    found = await target(prefix="", endpoint_url=ELSEWHERE, region="eu-west-1")
    assert (found.prefix, found.endpoint, found.region) == ("", ELSEWHERE, "eu-west-1")
    assert {found.prefix_source, found.endpoint_source, found.region_source} == {"argument"}


async def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the worker. AWS's own endpoint of the region is called then."""
    for name in ("STREAMER_TABLE_PREFIX", "STREAMER_ENDPOINT_URL", "STREAMER_REGION"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    found = await target()
    assert found.endpoint == "https://dynamodb.eu-north-1.amazonaws.com"
    assert (found.prefix, found.prefix_source) == ("streamer_", "default")
    assert (found.endpoint_source, found.region_source) == ("default", "AWS_REGION")
    assert found.is_aws


async def test_a_variable_may_be_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the worker."""
    monkeypatch.setenv("streamer_region", "eu-north-1")
    assert (await target()).region == "eu-north-1"


async def test_own_variables_override_those_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMER_REGION and STREAMER_ENDPOINT_URL say more precisely what is meant."""
    monkeypatch.setenv("STREAMER_REGION", "eu-north-1")
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", ELSEWHERE)
    found = await target()
    assert (found.region, found.endpoint) == ("eu-north-1", NOWHERE)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"])
async def test_an_emulator_in_the_environment_needs_no_region(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The region is us-east-1, as with `endpoint_url`."""
    monkeypatch.setenv(name, NOWHERE)
    found = await target()
    assert (found.endpoint, found.endpoint_source) == (NOWHERE, name)
    assert (found.region, found.region_source) == ("us-east-1", "default")
    assert not found.is_aws


@pytest.mark.parametrize(
    "text",
    [
        f"[profile mine]\nendpoint_url = {NOWHERE}\nregion = eu-south-1\n",
        (
            "[profile mine]\nservices = s\nregion = eu-south-1\n[services s]\n"
            f"dynamodb =\n  endpoint_url = {NOWHERE}\n"
        ),
    ],
)
async def test_the_endpoint_of_a_profile_is_used(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both forms. The source is the profile's name."""
    config = tmp_path / "config"
    config.write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    found = await target()
    assert (found.endpoint, found.endpoint_source) == (NOWHERE, "profile mine")
    assert (found.region, found.region_source) == ("eu-south-1", "profile mine")


async def test_configured_endpoints_may_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_IGNORE_CONFIGURED_ENDPOINT_URLS holds, as in every AWS SDK."""
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", NOWHERE)
    found = await target(region="eu-west-1")
    assert found.endpoint_source == "default"


@pytest.mark.parametrize(
    "endpoint", [None, "https://dynamodb.eu-west-1.amazonaws.com", "https://x.vpce.amazonaws.com"]
)
async def test_aws_needs_a_region(endpoint: str | None) -> None:
    """Also with an endpoint of AWS: requests are signed for a region."""
    with pytest.raises(InvalidInput, match=r"no AWS region: set STREAMER_REGION or AWS_REGION"):
        await target(endpoint_url=endpoint)


async def test_a_password_is_masked() -> None:
    """The target is logged."""
    async with open_stores(endpoint_url="http://me:s3cret@127.0.0.1:1") as stores:
        assert "s3cret" not in repr(stores.target)


@pytest.mark.parametrize("password", ["s3cret/x", "s3cret?x", "s3cret#x", "x:s3cret", "[s3cret"])
async def test_no_part_of_a_password_is_shown(password: str) -> None:
    """Also where the URL is not valid because of it."""
    url = f"http://me:{password}@127.0.0.1:1"
    assert "s3cret" not in without_password(f"{url} is not valid")
    try:
        async with open_stores(endpoint_url=url) as stores:
            shown = repr(stores.target)
    except InvalidInput as error:
        shown = str(error)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:s3cret@h:1", "http://***@h:1"),
        ("http://me:s3@cret@h:1", "http://***@h:1"),
        ("me:s3cret@h", "***@h"),
        ("HTTP:/me:s3cret@h", "HTTP:/***@h"),
        ("http://me:s3cret@h x", "http://***@h x"),
        ("'http://me:s3cret@'", "'http://***@'"),
        ("http://h/?token=s3cret", "http://h/?***"),
        ("http://h:8000/", "http://h:8000/"),
    ],
)
def test_what_is_secret_is_masked(url: str, shown: str) -> None:
    """In URLs that are valid, and in those that are not."""
    assert without_password(url) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "a:/" * 300_000, "://" * 300_000, "?" * 1_000_000]
)
def test_a_long_text_takes_no_longer_than_its_length(text: str) -> None:
    """A wrong setting and an error of a server may have any length."""
    assert without_password(text) == text


async def test_stores_in_memory_have_no_target() -> None:
    """And no account."""
    stores = memory_stores()
    assert (stores.target, await stores.account()) == (None, None)


async def test_the_account_is_that_of_the_table(recorder: Recorder) -> None:
    """DynamoDB Local has an account of zeros, which is none."""
    arns = {
        "arn:aws:dynamodb:eu-west-1:123456789012:table/streamer_requests": "123456789012",
        "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/streamer_requests": "123456789012",
        "arn:aws:dynamodb:ddblocal:000000000000:table/streamer_requests": None,
        "": None,
    }
    for arn, account in arns.items():
        recorder.body = b'{"Table": {"TableArn": "%s", "TableStatus": "ACTIVE"}}' % arn.encode()
        async with open_stores(endpoint_url=recorder.url) as stores:
            assert await stores.account() == account, arn


async def test_an_own_session_is_used_and_left_as_it_is(recorder: Recorder) -> None:
    """Its credentials sign the calls. Clients that it creates later do not change."""
    session = get_session()
    session.set_credentials("mine", "secret")
    before = session.get_component("response_parser_factory")
    async with open_stores(endpoint_url=recorder.url, session=session) as stores:
        assert await stores.engine.get(REQUESTS, "r") is None
    assert "Credential=mine/" in recorder.headers[-1]["Authorization"]
    assert session.get_component("response_parser_factory") is before
    assert session.get_config_variable("region") is None


async def test_an_own_client_is_used_and_not_closed(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its endpoint and region hold, whatever the variables say. They do not decide the prefix."""
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", "prod_")
    creating = get_session().create_client(
        "dynamodb", endpoint_url=recorder.url, region_name="eu-west-3"
    )
    calls = len(recorder.headers)
    async with creating as client:
        for _ in range(2):
            async with open_stores(client=client) as stores:
                assert await stores.engine.get(REQUESTS, "r") is None
                assert stores.target == Target(
                    endpoint=recorder.url,
                    endpoint_source="client",
                    region="eu-west-3",
                    region_source="client",
                    prefix="prod_",
                    prefix_source="STREAMER_TABLE_PREFIX",
                    tables=TableNames.from_prefix("prod_"),
                    table_sources=BY_PREFIX,
                )
    assert len(recorder.headers) == calls + 2


@pytest.mark.parametrize(
    "argument",
    [
        {"endpoint_url": NOWHERE},
        {"region": "eu-west-1"},
        {"session": get_session()},
        {"attempts": 2},
        {"observe": print},
    ],
)
async def test_a_client_and_what_it_has_decided_are_refused(argument: dict[str, Any]) -> None:
    """The error names the argument."""
    async with get_session().create_client("dynamodb", region_name="eu-west-3") as client:
        with pytest.raises(InvalidInput, match=next(iter(argument))):
            async with open_stores(client=client, **argument):
                pass


async def test_tables_may_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are those of the worker, in any case. An argument overrides its variable."""
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", "prod_")
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("STREAMER_TABLE_NAMES_REQUESTS", "jobs")
    monkeypatch.setenv("streamer_table_names_workers", "fleet")
    monkeypatch.setenv("STREAMER_TABLE_NAMES_CONNECTIONS", "")
    found = await target(table_names={"workers": "crew"})
    assert list(found.tables) == ["prod_connections", "jobs", "prod_subscriptions", "crew"]
    assert found.prefix == "prod_"
    assert found.table_sources == {
        "connections": "STREAMER_TABLE_PREFIX",
        "requests": "STREAMER_TABLE_NAMES_REQUESTS",
        "subscriptions": "STREAMER_TABLE_PREFIX",
        "workers": "argument",
    }
    assert (await target()).tables.workers == "fleet"


async def test_a_prefix_as_argument_reaches_no_other_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variables with names do not count beside it, and the argument with names does."""
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("STREAMER_TABLE_NAMES_REQUESTS", "jobs")
    monkeypatch.setenv("STREAMER_TABLE_NAMES_WRONG", "x")
    assert (await target(prefix="test_")).tables == TableNames.from_prefix("test_")
    found = await target(prefix="test_", table_names={"workers": "crew"})
    assert found.tables == TableNames.from_prefix("test_", {"workers": "crew"})


async def test_wrong_names_of_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown variable too: requests would go to a table that no worker reads."""
    with pytest.raises(InvalidInput, match="'request' is no table; the nearest is requests"):
        await target(table_names={"request": "jobs"})
    monkeypatch.setenv("STREAMER_TABLE_NAMES_REQUEST", "jobs")
    with pytest.raises(InvalidInput, match="'request' is no table; the nearest is requests"):
        await target()
