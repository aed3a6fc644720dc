"""What is installed, what is not, and which way imports may go."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from processes import ROOT, environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        arguments,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["store", "worker", "tests", "bench"])
def test_folders_of_the_repository_are_no_packages(tmp_path: Path, name: str) -> None:
    """Other people's modules often have these names."""
    ended = _run(tmp_path, sys.executable, "-c", f"import {name}")
    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr


def test_both_packages_are_typed(tmp_path: Path) -> None:
    """They can be imported from anywhere, and say that they carry types."""
    code = (
        "import importlib.resources as r, streamer_store, streamer_worker;"
        "print([r.files(p).joinpath('py.typed').is_file() "
        "for p in (streamer_store, streamer_worker)])"
    )
    assert _run(tmp_path, sys.executable, "-c", code).stdout == "[True, True]\n"


def test_the_store_may_not_import_the_worker(tmp_path: Path) -> None:
    """`make check` fails when it does."""
    for name in ("store", "worker"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    code = (
        "import sys; sys.path[:0] = ['store', 'worker'];"
        "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    )
    linter = (sys.executable, "-c", code)
    assert _run(tmp_path, *linter).returncode == 0
    module = tmp_path / "store" / "streamer_store" / "times.py"
    module.write_text(module.read_text() + "\nimport streamer_worker.retry\n")
    ended = _run(tmp_path, *linter)
    assert ended.returncode == 1
    assert "streamer_store.times -> streamer_worker.retry" in ended.stdout


def test_a_wheel_holds_the_two_packages_alone(tmp_path: Path) -> None:
    """With licence, types and the console script."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("store", "worker"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    built = _run(source, sys.executable, "-m", "hatchling", "build", "-t", "wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entries,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "streamer-worker = streamer_worker.cli:main" in archive.read(entries).decode()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"streamer_store", "streamer_worker", "streamer_worker-0.1.0.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_constraints_pin_what_the_project_names() -> None:
    """Every dependency has one exact version, and no address stands there."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS, re.MULTILINE))
    pinned = {_plain(name) for name in pins}
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["demo"],
        *PROJECT["dependency-groups"]["dev"],
    ]
    names = {_plain(re.match(r"[\w.-]+", each).group()) for each in wanted}  # type: ignore[union-attr]
    assert names - pinned == set()
    lines = [line for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(pins)


def test_each_pin_works_with_the_oldest_python() -> None:
    """That of pyproject.toml. Some distributions need a later patch release of it."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    pins = {_plain(name) for name in re.findall(r"^([\w.-]+)==", CONSTRAINTS, re.MULTILINE)}
    needs = {
        _plain(each.name): SpecifierSet(each.metadata["Requires-Python"] or "")
        for each in distributions()
    }
    assert [name for name in pins & set(needs) if not needs[name].contains(oldest)] == []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
