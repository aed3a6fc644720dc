"""The commands, as processes, on moto."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from processes import Process, command
from streamer_store.schema import TABLES
from streamer_worker.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(moto_url: str, request: pytest.FixtureRequest) -> dict[str, str]:
    prefix = f"cli-{abs(hash(request.node.name)):x}-"
    return {
        "STREAMER_ENDPOINT_URL": moto_url,
        "STREAMER_BATCH_WRITES": "false",
        "STREAMER_TABLE_PREFIX": prefix,
    }


@pytest.fixture
def tables(settings: dict[str, str]) -> dict[str, str]:
    """Create the tables; return the settings that name them."""
    assert command("tables", "create", **settings).returncode == 0
    return settings


def test_tables_are_checked_and_created(settings: dict[str, str]) -> None:
    """Missing tables are reported with exit code 1. Creating them twice succeeds both times."""
    before = command("tables", "check", **settings)
    assert before.returncode == 1
    assert before.stdout.count("missing; `streamer-worker tables create` creates it") == 4
    prefix = settings["STREAMER_TABLE_PREFIX"]
    names = ", ".join(f"{prefix}{table.name}" for table in TABLES)
    for done in (f"created {names}\n", ""):
        created = command("tables", "create", **settings)
        assert (created.returncode, created.stdout) == (0, f"{done}tables are ready\n")
    after = command("tables", "check", **settings)
    assert (after.returncode, after.stdout.splitlines()) == (
        0,
        [
            "point-in-time recovery: off; deletion protection: off",
            "tables have the keys and indexes that the worker needs",
        ],
    )


def test_a_request_is_enqueued_and_shown(tables: dict[str, str]) -> None:
    """`enqueue` prints the id alone. `show` prints all fields, as text or as JSON."""
    options = ("--connection", "c1", "--user", "u1", "--tenant", "t1")
    enqueued = command("enqueue", "echo", "--payload", '{"n": 1.5}', *options, **tables)
    assert enqueued.returncode == 0
    (request_id,) = enqueued.stdout.split()
    shown = json.loads(command("show", request_id, "--json", **tables).stdout)
    assert shown["request_id"] == request_id
    assert (shown["status"], shown["payload"]) == ("PENDING", {"n": 1.5})
    assert (shown["connection_id"], shown["user_id"], shown["tenant_id"]) == ("c1", "u1", "t1")
    assert shown["created_at"].endswith("Z")
    text = command("show", request_id, **tables).stdout
    assert "status" in text
    assert "PENDING" in text
    assert '{"n": 1.5}' in text


def test_a_payload_comes_from_standard_input(tables: dict[str, str]) -> None:
    """`--payload -` reads it. Without --payload it is an empty object."""
    piped = command("enqueue", "echo", "--payload", "-", stdin='{"from": "stdin"}', **tables)
    shown = json.loads(command("show", piped.stdout.strip(), "--json", **tables).stdout)
    assert shown["payload"] == {"from": "stdin"}
    plain = command("enqueue", "echo", **tables)
    assert (
        json.loads(command("show", plain.stdout.strip(), "--json", **tables).stdout)["payload"]
        == {}
    )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, not list"),
        ('{"n": NaN}', "payload.n"),
        ('{"": 1}', "a key is empty"),
        ('{"n": ' + "1" * 5000 + "}", "not JSON"),
        ('{"n": ' + "[" * 50_000, "is nested too deeply"),
    ],
    ids=["cut", "list", "nan", "empty-key", "long-number", "deep"],
)
def test_a_wrong_payload_is_refused(tables: dict[str, str], payload: str, reason: str) -> None:
    """The error is one line on stderr, with exit code 1."""
    ended = command("enqueue", "echo", "--payload", payload, **tables)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: payload")
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_showing_a_request_that_does_not_exist_fails(tables: dict[str, str]) -> None:
    """The error names its id. The exit code is 1."""
    ended = command("show", "nobody", **tables)
    assert ended.returncode == 1
    assert "no such request" in ended.stderr
    assert "nobody" in ended.stderr


def test_enqueue_waits_for_the_end() -> None:
    """With --wait it prints the ended request, and exits with 0 if COMPLETED, 1 if FAILED."""
    with Process("demo", "--keep-running") as demo:
        url = demo.found(r"STREAMER_ENDPOINT_URL=(\S+)")
        demo_settings = {"STREAMER_ENDPOINT_URL": url}
        completed = command("enqueue", "echo", "--payload", '{"n": 1}', "--wait", **demo_settings)
        assert completed.returncode == 0
        assert "COMPLETED" in completed.stdout
        assert '{"n": 1}' in completed.stdout
        options = ("--payload", '{"card": "1"}', "--wait")
        failed = command("enqueue", "charge_card", *options, **demo_settings)
        assert failed.returncode == 1
        assert "card 1 was declined" in failed.stdout


def test_settings_come_from_a_file(settings: dict[str, str], tmp_path: Path) -> None:
    """--config or STREAMER_CONFIG names it. The environment overrides it. Faults are listed."""
    file = tmp_path / "worker.toml"
    file.write_text('table_prefix = "from-file-"\n')
    url = {"STREAMER_ENDPOINT_URL": settings["STREAMER_ENDPOINT_URL"]}
    assert "from-file-" in command("tables", "check", "--config", str(file), **url).stdout
    assert "from-file-" in command("tables", "check", STREAMER_CONFIG=str(file), **url).stdout
    overridden = command("tables", "check", "--config", str(file), **settings)
    assert settings["STREAMER_TABLE_PREFIX"] in overridden.stdout
    file.write_text("concurrency = 0\n[reaper]\nintervall = 5\n")
    wrong = command("tables", "check", "--config", str(file), **url)
    assert wrong.returncode == 2
    assert "concurrency" in wrong.stderr
    assert "the nearest is reaper.interval" in wrong.stderr


def test_missing_credentials_are_reported(tables: dict[str, str]) -> None:
    """The command prints an error without a traceback, and exits with 1."""
    empty = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    ended = command("show", "r1", **(tables | empty))
    assert ended.returncode == 1
    assert "no usable AWS credentials" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["run", "enqueue", "show", "tables", "demo"]),
        (("run",), ["SIGTERM", "--config", "STREAMER_CONFIG"]),
        (("enqueue",), ["--payload", "--wait", "--connection", "Example"]),
        (("show",), ["--json", "request_id"]),
        (("tables",), ["create", "check"]),
        (("tables", "check"), ["exits with 1"]),
        (("demo",), ["--keep-running", "no AWS"]),
    ],
)
def test_help_names_the_important_options(arguments: tuple[str, ...], words: list[str]) -> None:
    """Every command has --help, which exits with 0."""
    ended = CliRunner().invoke(cli, [*arguments, "--help"], env={"COLUMNS": "120"})
    assert ended.exit_code == 0
    text = ended.stdout.lower()
    assert [word for word in words if word.lower() not in text] == []


def test_the_version_is_printed() -> None:
    """--version prints the version alone."""
    assert command("--version").stdout == "0.1.0\n"


def test_an_unknown_command_is_refused() -> None:
    """The error names it. The exit code is 2."""
    ended = command("works")
    assert ended.returncode == 2
    assert "works" in ended.stderr
