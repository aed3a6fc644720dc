"""The commands `check` and `config`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integration.desk import HANDLER, Desk, desk
from integration.proxy import answering, proxy_to
from plugins import plugin
from processes import command
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
    assert len(text_output.stdout.splitlines()) == 6


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
