"""`enqueue --unique-key`, and lines with `unique_key`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.desk import Desk, desk
from streamer_store import unique_id

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["desk"]
ID = unique_id("a", "k")
KEYED = ("enqueue", "a", "--unique-key", "k")


def test_a_second_one_prints_the_id_of_the_first(desk: Desk) -> None:
    """On standard output, as the first does. A line on standard error says that it exists."""
    assert desk.run(*KEYED, "--unique-for", "1h").stdout == f"{ID}\n"
    again = desk.run(*KEYED, "--payload", '{"n": 2}')
    assert again.stdout == f"{ID}\n"
    assert again.stderr.startswith(f"{ID} exists already, and is PENDING")
    answer = json.loads(desk.run(*KEYED, "--json").stdout)
    assert (answer["enqueued"], answer["unique_for"]) == ("exists", 3600)
    shown = desk.run("show", ID).stdout
    assert "k (taken for 1h after it is COMPLETED)" in " ".join(shown.split())
    assert len(desk.json("list")) == 1


def test_the_newest_replaces_one_that_waits(desk: Desk) -> None:
    """With --on-conflict replace-waiting. The line says when it runs."""
    desk.run(*KEYED)
    newest = desk.run(
        *KEYED, "--payload", '{"n": 2}', "--in", "5m", "--on-conflict", "replace-waiting"
    )
    assert newest.stdout == f"{ID}\n"
    assert newest.stderr.startswith(f"{ID} waited, and was replaced\nit runs in ")
    shown = desk.json("show", ID)
    assert (shown["payload"], shown["status"]) == ({"n": 2}, "SCHEDULED")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--unique-for", "soon"), "is not a duration"),
        (("--on-conflict", "replace"), "is not one of 'keep', 'replace-waiting'"),
    ],
)
def test_a_wrong_option_is_refused(options: tuple[str, ...], text: str, desk: Desk) -> None:
    """In words, with exit code 2."""
    stderr = " ".join(desk.run(*KEYED, *options, code=2).stderr.split())
    assert text in stderr.replace("│ ", "").replace(" │", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--unique-for", "31d", "--unique-key", "k"),
            "unique_for: must be a timedelta above zero and of 30 days at most, not 31 days",
        ),
        (("--unique-for", "1h"), "unique_for: needs a `unique_key`"),
        (("--unique-key", ""), "unique_key: must not be empty"),
        (("--unique-key", " "), "unique_key: must not be blank"),
        (("--unique-key", "k", "--id", "r1"), "request_id: cannot be combined"),
        (("--on-conflict", "replace-waiting"), "on_conflict: needs a `unique_key`"),
    ],
)
def test_what_the_store_refuses_is_an_error(
    arguments: tuple[str, ...], text: str, desk: Desk
) -> None:
    """With its words, and nothing is added."""
    assert text in str(desk.run("enqueue", "a", *arguments, code=1).exception)
    assert desk.json("list") == []


def test_lines_have_keys(desk: Desk, tmp_path: Path) -> None:
    """One whose key has a request counts as there already. --id-prefix names only the others."""
    file = tmp_path / "requests.jsonl"
    lines = [
        {"action": "a", "unique_key": "k", "unique_for": "1h"},
        {"action": "a", "unique_key": "k", "payload": {"n": 2}},
        {"action": "a", "unique_key": "l", "unique_for": 60},
        {"action": "a"},
        {"action": "a", "unique_key": "m", "unique_for": "x"},
        {"action": "a", "unique_key": "n\n"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    added = desk.run("enqueue", "--file", str(file), "--id-prefix", "p-", "--yes", code=1)
    assert added.stdout == "3 requests enqueued, 1 there already, 2 refused\n"
    assert "refused line 5: unique_for: 'x' is not a duration" in added.stderr
    assert "refused line 6: unique_key: has the control character" in added.stderr
    ids = {request["request_id"] for request in desk.json("list")}
    assert ids == {ID, unique_id("a", "l"), "p-4"}
    replaced = desk.run(
        *("enqueue", "--file", str(file), "--id-prefix", "p-", "--yes"),
        *("--on-conflict", "replace-waiting"),
        code=1,
    )
    assert replaced.stdout == (
        "3 requests enqueued, 1 there already, 3 of them replaced one that waited, 2 refused\n"
    )
    refused = desk.run("enqueue", "--file", str(file), "--unique-key", "k", code=2)
    assert "cannot be combined" in refused.stderr
