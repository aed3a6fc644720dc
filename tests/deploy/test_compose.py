"""The stack for looking at: it fits the image, the page on failures, and what it mounts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from processes import ROOT
from streamer_worker.settings import Settings, seconds, setting_names, variable_of
from streamer_worker.wiring import longest_shutdown

DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OURS = ("tables", "worker", "producer")


@pytest.mark.parametrize("name", OURS)
def test_the_worker_is_closed_in(name: str) -> None:
    """A root that cannot be written, no capabilities, no new privileges; known settings."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    known = {variable_of(each) for each in setting_names()}
    given = {each for each in service["environment"] if each.startswith("STREAMER_")}
    assert given <= known
    assert service["environment"]["AWS_SECRET_ACCESS_KEY"] == "dummy"


def test_it_is_given_the_time_to_drain() -> None:
    """Else a deploy would cost attempts."""
    grace_period = float(str(seconds(SERVICES["worker"]["stop_grace_period"])))
    assert grace_period > longest_shutdown(Settings())


def test_what_is_mounted_and_built_exists() -> None:
    """Relative to the file."""
    assert (DEPLOY / SERVICES["tables"]["build"] / "Dockerfile").is_file()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume


def test_prometheus_scrapes_the_worker_and_grafana_asks_prometheus() -> None:
    """By the names of the services."""
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"worker:{Settings().http.port}"]
    folder = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((folder / "dashboards" / "streamer.yml").read_text())
    path = boards["providers"][0]["options"]["path"]
    assert any(volume.split(":")[1].startswith(path) for volume in SERVICES["grafana"]["volumes"])


def test_every_image_is_pinned() -> None:
    """A stack that is new tomorrow is another one."""
    for name, service in SERVICES.items():
        if name not in OURS:
            assert ":" in service["image"], name
