"""The first image and unit: they start `streamer-worker run`, and can."""

from __future__ import annotations

import configparser
import fnmatch
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

from processes import ROOT
from streamer_worker.app import LAST_SECONDS
from streamer_worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "systemd" / "streamer-worker.service")
    return unit


def test_the_unit_starts_the_worker() -> None:
    """And again, when it ends."""
    service = _unit()["Service"]
    assert service["ExecStart"].endswith("/streamer-worker run")
    assert service["Restart"] == "always"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Where systemd is at hand it has nothing to say; elsewhere the sections are known ones."""
    assert set(_unit().sections()) == {"Unit", "Service", "Install"}
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return
    script = shutil.which("true")
    assert script is not None
    unit = tmp_path / "streamer-worker.service"
    text = (ROOT / "deploy" / "systemd" / "streamer-worker.service").read_text()
    unit.write_text(text.replace("/opt/streamer-worker/bin/streamer-worker", script))
    said = subprocess.run(  # noqa: S603
        [tool, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (said.returncode, said.stderr) == (0, "")


def test_the_unit_waits_for_the_drain() -> None:
    """The drain time, the handlers' grace and the last writes; the page on failures says so."""
    longest = Settings().drain_timeout + Settings().handler.cancel_grace + LAST_SECONDS
    assert int(_unit()["Service"]["TimeoutStopSec"]) > longest
    page = (ROOT / "docs" / "failures.md").read_text()
    assert f"{LAST_SECONDS:g} s (claims" in page
    assert f"{longest:g} s as\nset by default" in page


def test_what_the_image_copies_is_there() -> None:
    """Each source exists, and .dockerignore lets it through."""
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    ]
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    ]
    assert len(copied) >= 6
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


def test_the_image_runs_the_console_script_as_nobody_special() -> None:
    """A user by number, who is not root; a base that can be replaced."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = re.findall(r'^ENTRYPOINT \["(.*?)"\]', DOCKERFILE, re.MULTILINE)
    assert entry in scripts
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0
    assert re.search(r"^ARG BASE=", DOCKERFILE, re.MULTILINE)
