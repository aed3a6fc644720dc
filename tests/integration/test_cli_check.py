"""The commands `check` and `config`."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from integration.desk import HANDLER, Desk, desk
from integration.proxy import answering, proxy_to
from plugins import plugin
from processes import PROGRAM, command, environment
from streamer_store import (
    RequestStatus,
    Stores,
)

__all__ = ["desk"]


def findings(result: str) -> dict[str, list[str]]:
    """Return the levels of the findings, by subject."""
    levels: dict[str, list[str]] = {}
    for finding in json.loads(result):
        levels.setdefault(finding["subject"], []).append(finding["level"])
    return levels


ALL_OK = {
    "settings": ["ok"],
    "handlers": ["ok"],
    "region": ["ok"],
    "endpoint": ["ok"],
    "credentials": ["ok"],
    "tables": ["ok"],
    "permissions": ["ok"],
    "push": ["ok"],
}


@pytest.fixture
def equipped(desk: Desk, tmp_path: Any) -> dict[str, str]:
    """Return the settings of a worker that has a handler."""
    path = plugin(tmp_path, "steps", HANDLER, "steps = steps:steps")
    return desk.settings | {"PYTHONPATH": str(path)}


def test_check_exits_with_0_if_a_worker_can_run(equipped: dict[str, str]) -> None:
    """There is one line for each subject, and nothing to fix."""
    json_output = command("check", "--json", **equipped)
    assert (json_output.returncode, findings(json_output.stdout)) == (0, ALL_OK)
    text_output = command("check", **equipped)
    assert text_output.returncode == 0
    assert "→" not in text_output.stdout
    assert len(text_output.stdout.splitlines()) == 8


def test_checking_changes_nothing(desk: Desk, equipped: dict[str, str]) -> None:
    """The writes of the check store no item."""
    assert command("check", **equipped).returncode == 0

    async def look(stores: Stores) -> tuple[int, int, int]:
        requests = [
            (await stores.requests.depth(status, limit=10)).count for status in RequestStatus
        ]
        connections = [connection async for connection in stores.connections.list_all()]
        return sum(requests), len(connections), len(await stores.workers.list())

    assert desk.do(look) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "subject", "todo"),
    [
        ({"STREAMER_CONCURENCY": "5"}, "settings", "docs/settings.md"),
        ({"PYTHONPATH": ""}, "handlers", "install a package"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials", "AWS_PROFILE"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "credentials", "AWS_PROFILE"),
        ({"AWS_PROFILE": "nobody"}, "credentials", "AWS_PROFILE"),
        ({"STREAMER_TABLE_PREFIX": "none-"}, "tables", "streamer-worker tables create"),
        ({"STREAMER_ENDPOINT_URL": "http://127.0.0.1:9"}, "tables", "network"),
        ({"STREAMER_ENDPOINT_URL": "", "AWS_DEFAULT_REGION": ""}, "region", "STREAMER_REGION"),
    ],
)
def test_each_problem_is_reported_with_its_fix(
    changed: dict[str, str], subject: str, todo: str, equipped: dict[str, str]
) -> None:
    """The exit code is 1."""
    result = command("check", "--json", **(equipped | changed))
    assert result.returncode == 1, result.stderr
    wrong = [finding for finding in json.loads(result.stdout) if finding["level"] == "error"]
    assert subject in {finding["subject"] for finding in wrong}
    assert todo in " ".join(finding["todo"] for finding in wrong)


def test_denied_calls_are_reported(equipped: dict[str, str]) -> None:
    """Each finding names the IAM action to allow, and its resource."""
    with proxy_to(equipped["STREAMER_ENDPOINT_URL"]) as proxy:
        deny = answering(400, "AccessDeniedException")

        async def fault(request: Any, forward: Any) -> Any:
            call = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
            return await (deny(request, forward) if call == "UpdateItem" else forward())

        proxy.fault = fault
        result = command("check", **(equipped | {"STREAMER_ENDPOINT_URL": proxy.url}))
    assert result.returncode == 1
    prefix = equipped["STREAMER_TABLE_PREFIX"]
    for table in ("requests", "workers"):
        assert f"allow dynamodb:UpdateItem on table/{prefix}{table}\n" in result.stdout
    assert result.stdout.count("permissions") == 2


def test_a_denied_scan_of_the_subscriptions_is_a_warning(equipped: dict[str, str]) -> None:
    """A worker can run without it."""
    with proxy_to(equipped["STREAMER_ENDPOINT_URL"]) as proxy:
        deny = answering(400, "AccessDeniedException")
        table = equipped["STREAMER_TABLE_PREFIX"] + "subscriptions"

        async def fault(request: Any, forward: Any) -> Any:
            scans = request.headers.get("X-Amz-Target", "").endswith(".Scan")
            denied = scans and table in await request.text()
            return await (deny(request, forward) if denied else forward())

        proxy.fault = fault
        result = command("check", "--json", **(equipped | {"STREAMER_ENDPOINT_URL": proxy.url}))
    assert result.returncode == 0, result.stdout
    findings = [found for found in json.loads(result.stdout) if found["subject"] == "permissions"]
    assert [found["level"] for found in findings] == ["warning"]
    assert f"allow dynamodb:Scan on table/{table}:" in findings[0]["todo"]


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("changed", "endpoint", "region"),
    [
        ({}, "from STREAMER_ENDPOINT_URL", "from AWS_DEFAULT_REGION"),
        ({"STREAMER_REGION": "eu-west-1"}, "STREAMER_ENDPOINT_URL", "from STREAMER_REGION"),
        ({"AWS_DEFAULT_REGION": ""}, "STREAMER_ENDPOINT_URL", "us-east-1: none is set"),
        ({"AWS_DEFAULT_REGION": "", "AWS_REGION": "eu-west-1"}, "", "eu-west-1, from AWS_REGION"),
    ],
)
def test_the_endpoint_and_the_region_in_force_are_named(
    changed: dict[str, str], endpoint: str, region: str, equipped: dict[str, str]
) -> None:
    """With the setting or the variable that they come from."""
    output = command("check", **(equipped | changed)).stdout
    named = {line.split()[1]: line for line in output.splitlines()}
    assert equipped["STREAMER_ENDPOINT_URL"] in named["endpoint"]
    assert endpoint in named["endpoint"]
    assert region in named["region"]
    assert equipped["STREAMER_TABLE_PREFIX"] in named["settings"]


def test_an_endpoint_of_the_aws_settings_is_named(equipped: dict[str, str]) -> None:
    """AWS_ENDPOINT_URL_DYNAMODB decides where the tables are. So `check` must not say AWS."""
    url = equipped["STREAMER_ENDPOINT_URL"]
    aws = {"STREAMER_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_DYNAMODB": url}
    output = command("check", **(equipped | aws)).stdout
    assert f"{url}, from AWS_ENDPOINT_URL_DYNAMODB\n" in output
    settings = json.loads(command("config", "--json", **aws).stdout)
    assert settings["endpoint_url"] == {"value": url, "from": "AWS_ENDPOINT_URL_DYNAMODB"}


@pytest.mark.parametrize("key", ["", "dummy"])
def test_a_password_in_the_endpoint_is_masked(key: str, equipped: dict[str, str]) -> None:
    """Also where the credentials are missing, and in the error of a call."""
    changed = {"STREAMER_ENDPOINT_URL": "http://me:s3cret@127.0.0.1:9", "AWS_ACCESS_KEY_ID": key}
    ended = command("check", **(equipped | changed))
    assert "http://***@127.0.0.1:9" in ended.stdout
    assert "s3cret" not in ended.stdout + ended.stderr


def test_a_file_is_named_as_the_source(equipped: dict[str, str], tmp_path: Any) -> None:
    """By its path, which --config or STREAMER_CONFIG gives."""
    file = tmp_path / "worker.toml"
    file.write_text("region = 'eu-west-3'\n")
    output = command("check", "--config", str(file), **equipped).stdout
    assert f"eu-west-3, from {file}\n" in output


def test_packages_and_account_are_named(equipped: dict[str, str]) -> None:
    """The package of the handlers, and the account that owns the tables."""
    output = command("check", **equipped).stdout
    assert "1: steps, from steps 1.0" in output
    assert "tables of AWS account 123456789012 have" in output


def test_a_remedy_is_printed_once(equipped: dict[str, str]) -> None:
    """Four tables are missing, and one command creates them. It is printed below the last."""
    output = command("check", **(equipped | {"STREAMER_TABLE_PREFIX": "none-"})).stdout
    assert output.count("missing") == 4
    assert output.count("→") == 1
    network = command("check", **(equipped | {"STREAMER_ENDPOINT_URL": NOWHERE})).stdout
    assert network.count("did not answer") == 1
    assert "operation=" not in network


@pytest.mark.parametrize(
    "arguments", [["check"], ["config"], ["config", "--json"], ["--help"], ["handlers", "--help"]]
)
def test_a_full_disk_is_a_message(arguments: list[str], desk: Desk) -> None:
    """One line, and the exit code 1. No traceback."""
    with open("/dev/full", "w") as full:  # noqa: PTH123  it is no file
        ended = subprocess.run(  # noqa: S603
            [PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(**desk.settings),
        )
    message = "error: cannot write the output: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, message)


@pytest.mark.parametrize("arguments", [["check"], ["config"], ["config", "--json"]])
def test_a_closed_pipe_is_no_error(arguments: list[str], desk: Desk) -> None:
    """As in `check | head -1`. Nothing is printed about it."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(  # noqa: S603
        [PROGRAM, *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(**desk.settings),
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_config_prints_values_and_sources(tmp_path: Any) -> None:
    """Passwords in URLs are masked."""
    file = tmp_path / "worker.toml"
    file.write_text("concurrency = 5\n[reaper]\ninterval = '90m'\n")
    url = "http://user:s3cret@127.0.0.1:9"
    variables = {"STREAMER_ENDPOINT_URL": url, "STREAMER_REAPER_DRY_RUN": "true"}
    printed = command("config", "--config", str(file), "--json", **variables)
    settings = json.loads(printed.stdout)
    assert settings["concurrency"] == {"value": 5, "from": "file"}
    assert settings["reaper.interval"] == {"value": 5400, "from": "file"}
    assert settings["reaper.dry_run"] == {"value": True, "from": "environment"}
    assert settings["poll.max_interval"] == {"value": 0.5, "from": "default"}
    assert settings["endpoint_url"]["value"] == "http://***@127.0.0.1:9"
    table = command("config", "--config", str(file), **variables).stdout
    assert "1h30m" in table
    assert "s3cret" not in table + printed.stdout


def test_config_refuses_wrong_settings() -> None:
    """It prints the faults instead, and exits with 2."""
    ended = command("config", STREAMER_CONCURRENCY="none")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "STREAMER_CONCURRENCY" in ended.stderr
