"""The example stack: it builds what it needs, it can be scaled, and its files fit together."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import run
from processes import ROOT
from streamer_worker.handlers.references import load_reference
from streamer_worker.settings import Settings, seconds, setting_names, variable_of
from streamer_worker.wiring import longest_shutdown

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
# What Compose 2 knows of a service, as far as it is used here.
KEYS = {
    *("build", "image", "pull_policy", "command", "entrypoint", "init", "environment"),
    *("read_only", "cap_drop", "security_opt", "healthcheck", "depends_on", "restart"),
    *("stop_grace_period", "expose", "ports", "volumes"),
}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
OURS = ("tables", "worker", "producer", "gateway")


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


def test_compose_knows_every_key() -> None:
    """A misspelled key is an error of Compose, and a dependency is on a service that exists."""
    assert set(COMPOSE) == {"name", "x-worker", "services"}
    for name, service in SERVICES.items():
        assert set(service) <= KEYS, name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"]
            else:
                assert needed in SERVICES


def test_nothing_is_pulled_that_is_built() -> None:
    """A service has either a pinned image, or a build of the Dockerfile's target and no name.

    A name would be looked for in a registry. The name of the project keeps Compose from naming
    its own images like the image of docs/operations.md, `streamer-worker`.
    """
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    for name, service in SERVICES.items():
        if name in OURS:
            assert "image" not in service
            assert service["pull_policy"] == "build"
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert service["build"]["target"] in targets
            assert f"{COMPOSE['name']}-{name}" != "streamer-worker"
        else:
            assert re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", service["image"]), name
    # Without a target, the last stage is built: the worker without plugins.
    assert dockerfile.rstrip().endswith("\nFROM worker")


def test_what_is_mounted_exists() -> None:
    """Relative to the file."""
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume


def test_workers_can_be_scaled() -> None:
    """They use no port of the host. Prometheus finds the address of each container by DNS."""
    assert "ports" not in SERVICES["worker"]
    port = Settings().http.port
    assert SERVICES["worker"]["expose"] == [str(port)]
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())[
        "scrape_configs"
    ]
    (discovery,) = job["dns_sd_configs"]
    assert (discovery["names"], discovery["type"], discovery["port"]) == (["worker"], "A", port)


def test_ports_of_the_host_are_on_loopback() -> None:
    """Nobody else can reach the stack, whose credentials are public."""
    for service in SERVICES.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_the_worker_pushes_to_the_gateway() -> None:
    """It may post to where the gateway says, and runs the actions that the page requests.

    The page accepts the port only that is published.
    """
    options = dict(zip(*[iter(SERVICES["gateway"]["command"])] * 2, strict=True))
    assert urlsplit(options["--post-url"]).netloc == f"gateway:{options['--port']}"
    environment = SERVICES["worker"]["environment"]
    assert environment["STREAMER_NOTIFIER_MORE_HOSTS"] == options["--post-url"]
    assert "STREAMER_PUSH" not in environment
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:{options['--port']}:{options['--port']}"]
    _, _, handlers = SERVICES["worker"]["command"]
    assert {handler.action for handler in load_reference(handlers)} == set(run.actions([handlers]))


@pytest.mark.parametrize("url", ["ftp://a", "localhost:1", "http://", "http://a:8797/stage"])
def test_the_gateway_refuses_a_url_that_workers_cannot_post_to(url: str) -> None:
    """Otherwise it would start, and no message would arrive."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not like http://gateway:8797"):
        run._post_url(url)
    assert run._post_url("http://gateway:8797/") == "http://gateway:8797"


def test_the_page_has_a_payload_for_each_action() -> None:
    """Nobody has to know what the handlers expect."""
    page = (ROOT / "examples" / "gateway" / "local_gateway" / "page.html").read_text()
    (examples,) = re.findall(r"^const EXAMPLES = \{$(.*?)^\};$", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"(\w+): \{", examples)) == set(
        run.actions(["streamer_worker.demo.handlers"])
    )


def test_grafana_opens_on_the_dashboard() -> None:
    """It is mounted where Grafana provisions dashboards from, and asks our Prometheus."""
    folder = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((folder / "dashboards" / "streamer.yml").read_text())
    path = boards["providers"][0]["options"]["path"]
    grafana = SERVICES["grafana"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(f"{path}/")
    mounted = {target: source for source, target, _ in map(_parts, grafana["volumes"])}
    assert json.loads((DEPLOY / mounted[home]).read_text())["uid"] == "streamer-worker"


def test_every_service_that_serves_is_checked() -> None:
    """The image has the worker's health check. What serves nothing has none."""
    for name, service in SERVICES.items():
        match name:
            case "worker":
                assert "healthcheck" not in service
                assert "\nHEALTHCHECK " in (ROOT / "Dockerfile").read_text()
            case "tables" | "producer":
                assert service["healthcheck"] == {"disable": True}
            case _:
                assert service["healthcheck"]["test"][0] == "CMD"


def _parts(volume: str) -> list[str]:
    return volume.split(":")
