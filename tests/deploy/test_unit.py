"""The unit for systemd: it is understood, closes what it can, and waits for the drain."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from plugins import SLOW_ENTRIES, SLOW_PLUGIN, plugin
from processes import ROOT, command
from streamer_worker.settings import Settings, load_settings
from streamer_worker.wiring import SHUTDOWN_SECONDS, longest_shutdown

if TYPE_CHECKING:
    from pathlib import Path

UNIT = ROOT / "deploy" / "systemd" / "streamer-worker@.service"
PROGRAM = "/opt/streamer-worker/bin/streamer-worker"
ENVIRONMENT = "/etc/streamer-worker/environment"


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
    """A handler that calls os._exit(0) must not leave it down."""
    assert service["ExecStart"] == f"{PROGRAM} run"
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    # What reads the settings a second time must not win over the instance's own file.
    assert UNIT.read_text().index("/%i.environment") > UNIT.read_text().index("/environment")


@pytest.mark.parametrize(
    ("fault", "is_restarted"),
    [
        ({"STREAMER_CONCURENCY": "3"}, False),
        ({"AWS_PROFILE": "no_such_profile"}, False),
        ({"STREAMER_ENDPOINT_URL": "http://127.0.0.1:1"}, True),
    ],
    ids=["setting", "profile", "outage"],
)
def test_it_does_not_start_again_what_a_restart_does_not_help(
    service: configparser.SectionProxy,
    tmp_path: Path,
    fault: dict[str, str],
    is_restarted: bool,  # noqa: FBT001
) -> None:
    """A wrong setting ends with an exit code that prevents restarts, and an outage does not."""
    path = plugin(tmp_path, "slow", SLOW_PLUGIN, *SLOW_ENTRIES)
    ended = command("run", PYTHONPATH=str(path), STREAMER_HTTP_PORT="0", **fault)
    prevented = service["RestartPreventExitStatus"].split()
    assert (str(ended.returncode) not in prevented) == is_restarted, ended.stderr


def test_the_sample_environment_is_valid(
    service: configparser.SectionProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting is known and valid, as a comment too, and systemd reads each line as meant."""
    assert f"EnvironmentFile=-{ENVIRONMENT}" in UNIT.read_text().splitlines()
    text = (UNIT.parent / "environment").read_text()
    assigned = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    for name in list(os.environ):
        if name.startswith("STREAMER_"):
            monkeypatch.delenv(name)
    for name, value in assigned.items():
        assert re.fullmatch(r"[\w.-]*", value), "systemd takes quotes and comments literally"
        if name.startswith("STREAMER_"):
            monkeypatch.setenv(name, value)
    settings = load_settings(None)
    # The values are the defaults, so that the file can be used as it is.
    assert settings.table_prefix == Settings().table_prefix
    assert settings.concurrency == Settings.model_fields["concurrency"].default
    assert {"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} < set(assigned)
    assert "DynamicUser" in service


def test_the_steps_of_the_page_use_the_files() -> None:
    """docs/operations.md installs the sample with its mode before it starts the unit."""
    page = (ROOT / "docs" / "operations.md").read_text()
    install = f"install -m 0600 deploy/systemd/environment {ENVIRONMENT}"
    assert install in page
    assert install in (UNIT.parent / "environment").read_text()
    assert page.index(install) < page.index("systemctl enable --now streamer-worker@1")


def test_it_waits_for_the_drain(service: configparser.SectionProxy) -> None:
    """The drain time, the handlers' grace and the last writes; the page on failures says so."""
    longest = longest_shutdown(Settings())
    assert int(service["TimeoutStopSec"]) >= max(longest + 5, Settings().drain_timeout + 15)
    page = " ".join((ROOT / "docs" / "failures.md").read_text().split())
    assert f"{SHUTDOWN_SECONDS:g} s (claims" in page
    assert f"{longest:g} s with the default settings" in page
