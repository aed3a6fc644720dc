"""The commands `export` and `import`: what they print, ask, refuse, and how they exit."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exports import lines_of, part, with_line
from integration.desk import Desk, desk
from processes import PROGRAM, command
from streamer_store import WorkerRow
from transfers import all_items, checksum, fill

__all__ = ["desk"]


@pytest.fixture
def filled(desk: Desk) -> Desk:
    desk.do(lambda stores: fill(stores, 40))
    return desk


@pytest.fixture
def other(moto_url: str) -> Desk:
    """Give other tables, which are empty."""
    other = Desk(moto_url)
    other.do(lambda stores: stores.create_tables())
    return other


@pytest.fixture
def folder(filled: Desk, tmp_path: Path) -> Path:
    """Give an export of the filled tables."""
    filled.run("export", str(tmp_path / "e"))
    return tmp_path / "e"


def _failed(*arguments: str, desk: Desk, code: int = 1) -> str:
    """Run a command that must fail, and return its only line on stderr."""
    ended = command(*arguments, **desk.settings)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert ended.stderr.count("error: ") == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_an_export_is_imported_into_other_tables(filled: Desk, other: Desk, tmp_path: Path) -> None:
    """Both commands print what they did, and the tables are equal."""
    target = tmp_path / "e"
    output = filled.run("export", str(target)).output
    assert f"exported 3 connections, 40 requests, 3 subscriptions, 1 workers to {target}" in output
    assert other.run("import", str(target)).output == f"imported 47 items from {target}\n"
    assert other.do(all_items).keys() == filled.do(all_items).keys()
    assert checksum(other.do(all_items)) == checksum(filled.do(all_items))


def test_both_print_json(filled: Desk, other: Desk, tmp_path: Path) -> None:
    """It has the fields of `Exported` and `Imported`."""
    exported = filled.json("export", str(tmp_path / "e"))
    assert exported["items"]["requests"] == 40
    assert exported["resumed"] is False
    imported = other.json("import", str(tmp_path / "e"))
    assert (imported["written"], imported["refused"], imported["refused_keys"]) == (47, 0, [])


def test_tables_that_have_items_are_asked_about(folder: Path, other: Desk) -> None:
    """Nothing is written without a terminal, and nothing after a no."""
    other.enqueue("theirs")
    line = _failed("import", str(folder), desk=other, code=2)
    assert "which have items? There is no terminal to ask on: give --yes to import" in line
    assert other.ids() == ["theirs"]
    refused = other.answered("n\n", "import", str(folder))
    assert (refused.returncode, other.ids()) == (1, ["theirs"])
    assert other.answered("y\n", "import", str(folder)).returncode == 0
    assert len(other.ids()) == 40  # one of the items has no action
    assert "47 unchanged" in other.run("import", str(folder), "--yes").output


def test_items_that_differ_are_refused_skipped_or_replaced(folder: Path, filled: Desk) -> None:
    """The error names the options."""
    filled.run("cancel", "r-00001")
    line = _failed("import", str(folder), "--yes", "--with-workers", desk=filled)
    assert "items of the export exist and differ: 1 " in line
    assert "--existing=skip keeps them, --existing=replace overwrites them" in line
    more = ("import", str(folder), "--yes", "--with-workers")
    assert "1 skipped" in filled.run(*more, "--existing", "skip").output
    assert "1 replaced" in filled.run(*more, "--existing", "replace").output
    assert filled.json("show", "r-00001")["status"] == "PENDING"


def test_a_running_worker_is_in_the_way(folder: Path, other: Desk) -> None:
    """The error names it and the option."""
    row = WorkerRow(worker_id="alive", started_at=datetime.now(UTC))
    other.do(lambda stores: stores.workers.register(row))
    assert "(alive). Stop them" in _failed("import", str(folder), "--yes", desk=other)
    other.run("import", str(folder), "--yes", "--with-workers")


def test_missing_tables_are_named_by_both(folder: Path, moto_url: str, tmp_path: Path) -> None:
    """The error says which command creates them. No directory is left."""
    nowhere = Desk(moto_url)
    for arguments in (("export", str(tmp_path / "n")), ("import", str(folder))):
        line = _failed(*arguments, desk=nowhere)
        assert "missing; `streamer-worker tables create` creates it" in line
    assert not (tmp_path / "n").exists()


def test_a_changed_export_is_one_line_with_its_place(folder: Path, other: Desk) -> None:
    """The file and the line."""
    with_line('{"Item": {"RequestID": {"S": "\\u001b[31m"}, "A": 1}}')(folder)
    line = _failed("import", str(folder), desk=other)
    assert "json.gz, line 2: 'A' is no attribute value: 1" in line
    assert other.ids() == []


def test_a_directory_of_another_program_is_refused_by_both(filled: Desk, tmp_path: Path) -> None:
    """Nothing is written to it."""
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    assert "photo.jpg: choose an empty target" in _failed("export", str(tmp_path), desk=filled)
    assert "not an export: it has no manifest.json" in _failed("import", str(tmp_path), desk=filled)


def test_expired_items_are_warned_of(folder: Path, other: Desk) -> None:
    """DynamoDB would delete them soon after the import."""

    def edit(line: bytes) -> bytes:
        item = json.loads(line)["Item"] | {"TTL": {"N": "1000000000"}}
        return json.dumps({"Item": item}).encode()

    with_line(edit(lines_of(part(folder))[1]))(folder)
    ended = command("import", str(folder), **other.settings)
    assert "warning: DynamoDB will delete 1 item within a few days" in ended.stderr
    assert ended.returncode == 0


def test_a_target_without_permission_is_one_error(filled: Desk, tmp_path: Path) -> None:
    """The error names the path. Root is not refused, so its privilege is dropped."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    arguments = [PROGRAM, "export", str(closed / "e")]
    if os.geteuid() == 0:
        dropped = "-dac_override,-dac_read_search"
        arguments = ["setpriv", "--bounding-set", dropped, *arguments]
    executable = shutil.which(arguments[0])
    assert executable is not None
    ended = command(*arguments[1:], executable=executable, **filled.settings)
    assert ended.returncode == 1
    assert f"error: cannot write {closed}/e: Permission denied" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_full_disk_is_one_error_and_the_next_run_finishes(
    filled: Desk, other: Desk, tmp_path: Path
) -> None:
    """No half file is left. A limit for files acts on the same calls as a full disk."""
    target = tmp_path / "e"
    # The file of coverage would be as limited.
    script = 'unset COVERAGE_PROCESS_CONFIG; ulimit -f 24; exec "$@"'
    limited = ["-c", script, "sh", PROGRAM, "export", str(target)]
    big = {"text": os.urandom(20_000).hex()}
    filled.enqueue("big", payload=big)
    ended = command(*limited, executable="/bin/sh", **filled.settings)
    assert ended.returncode == 1, ended.stderr
    assert f"error: cannot write {target}: File too large" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(target.rglob("*.unfinished"))
    assert "the export is not finished: run the export again" in _failed(
        "import", str(target), desk=other
    )
    assert "continued and finished" in filled.run("export", str(target)).output
    other.run("import", str(target))
    assert checksum(other.do(all_items)) == checksum(filled.do(all_items))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Give the arguments that run a program with a disk of 64 KB at a path."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=64k none "{disk}" && exec "$@"'
    prefix = ["-rm", "sh", "-c", script, "sh"]
    executable = shutil.which("unshare")
    probe = executable and command(*prefix, "true", executable=executable)
    if not probe or probe.returncode:
        pytest.skip("needs unshare and mount of util-linux, and a kernel that allows them")
    return disk, prefix, executable


def test_a_disk_that_fills_up_is_one_error(filled: Desk, small_disk: Any) -> None:
    """The error has the words of the system."""
    disk, prefix, executable = small_disk
    filled.enqueue("big", payload={"text": os.urandom(90_000).hex()})
    ended = command(
        *prefix, PROGRAM, "export", str(disk / "e"), executable=executable, **filled.settings
    )
    assert ended.returncode == 1, ended.stderr
    assert f"error: cannot write {disk}/e: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pipe_in_place_of_a_manifest_is_one_error(desk: Desk, tmp_path: Path) -> None:
    """Its other end is not waited for."""
    os.mkfifo(tmp_path / "manifest.json")
    assert "manifest.json is no file" in _failed("import", str(tmp_path), "--yes", desk=desk)
    assert "manifest.json is no file" in _failed("export", str(tmp_path), desk=desk)
