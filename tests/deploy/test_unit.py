"""The unit for systemd: it is understood, closes what it can, and waits for the drain."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from processes import ROOT
from streamer_worker.settings import Settings
from streamer_worker.wiring import SHUTDOWN_SECONDS, longest_shutdown

if TYPE_CHECKING:
    from pathlib import Path

UNIT = ROOT / "deploy" / "systemd" / "streamer-worker@.service"
PROGRAM = "/opt/streamer-worker/bin/streamer-worker"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    return unit["Service"]


def analyze(tmp_path: Path, *arguments: str) -> str:
    """Have systemd judge an instance of the unit whose program exists; return what it says."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        if os.environ.get("STREAMER_TEST_REQUIRE_ALL"):
            pytest.fail("systemd-analyze is not installed")
        pytest.skip("systemd-analyze is not installed")
    script = shutil.which("true")
    assert script is not None
    unit = tmp_path / "streamer-worker@1.service"
    unit.write_text(UNIT.read_text().replace(PROGRAM, script))
    said = subprocess.run(  # noqa: S603
        [tool, *arguments, str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    """No unknown setting, no value that it does not know."""
    assert analyze(tmp_path, "verify") == ""


def test_its_exposure_is_below_two(tmp_path: Path) -> None:
    """Of ten; what is left is the network, which it needs."""
    said = analyze(tmp_path, "security", "--offline=true")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None
    assert float(found.group(1)) < 2.0


def test_it_starts_the_worker_and_again_when_it_ends(service: configparser.SectionProxy) -> None:
    """Whatever the exit code is: a handler that calls os._exit(0) must not leave it down."""
    assert service["ExecStart"] == f"{PROGRAM} run"
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    # What reads the settings a second time must not win over the instance's own file.
    assert UNIT.read_text().index("/%i.environment") > UNIT.read_text().index("/environment")


def test_it_waits_for_the_drain(service: configparser.SectionProxy) -> None:
    """The drain time, the handlers' grace and the last writes; the page on failures says so."""
    longest = longest_shutdown(Settings())
    assert int(service["TimeoutStopSec"]) >= max(longest + 5, Settings().drain_timeout + 15)
    page = " ".join((ROOT / "docs" / "failures.md").read_text().split())
    assert f"{SHUTDOWN_SECONDS:g} s (claims" in page
    assert f"{longest:g} s with the default settings" in page
