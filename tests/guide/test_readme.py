"""What the README promises, one idea per test."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from processes import ROOT, Process, command, install
from streamer_store import RequestStatus, open_stores
from streamer_worker.cli.main import cli
from streamer_worker.settings import Settings, setting_names, value_text, variable_of

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()
_PAGES = ("api", "failures", "handlers", "metrics", "operations", "settings")


def example(name: str) -> str:
    """Return the code block under `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found.group(1)


def test_it_says_what_it_is_in_five_lines() -> None:
    """The first paragraph, under the title."""
    paragraph = README.split("\n\n")[1]
    assert len(paragraph.splitlines()) <= 5


def test_the_first_handler_has_twenty_lines() -> None:
    """Code and packaging are short enough to read at once."""
    assert len(example("handler").strip().splitlines()) <= 20
    assert len(example("plugin").strip().splitlines()) <= 20


def test_the_first_handler_runs(moto_url: str, tmp_path: Path) -> None:
    """Packaged as the README shows, it is found, and answers a request."""
    (tmp_path / "source" / "hello").mkdir(parents=True)
    (tmp_path / "source" / "hello" / "__init__.py").write_text(example("handler"))
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    (tmp_path / "source" / "pyproject.toml").write_text(build + example("plugin"))
    settings = {
        "STREAMER_ENDPOINT_URL": moto_url,
        "STREAMER_TABLE_PREFIX": "readme-",
        "STREAMER_HTTP_PORT": "0",
        "PYTHONPATH": str(install(tmp_path / "source", tmp_path / "installed")),
    }
    assert command("tables", "create", **settings).returncode == 0
    with Process("run", **settings) as worker:
        worker.event("worker_started")
        found = re.search(r"enqueue greet --payload '(.*?)' --wait", README)
        assert found is not None
        ended = command("enqueue", "greet", "--payload", found.group(1), "--wait", **settings)
        assert ended.returncode == 0
        assert '{"greeted": 2}' in ended.stdout


@pytest.mark.anyio
async def test_the_producer_enqueues(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stored waits for a worker."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    async with open_stores() as stores:
        await stores.create_tables()
        names: dict[str, Any] = {}
        exec(example("producer"), names)  # noqa: S102  the README is ours
        request = await stores.requests.get(await names["produce"]())
        assert (request.status, request.action) == (RequestStatus.PENDING, "greet")
        await stores.requests.delete(request.request_id)


@pytest.mark.anyio
async def test_the_storage_example_runs(
    moto_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints a completed request with its result, and what was not found."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    names: dict[str, Any] = {}
    exec(example("store"), names)  # noqa: S102  the README is ours
    await names["main"]()
    told = capsys.readouterr().out
    assert "COMPLETED {'url': 'https://example.com/report.pdf'}" in told
    assert "no such connection" in told


def test_its_commands_are_all_there_are() -> None:
    """Each one of the table answers --help, and none is left out."""
    rows = re.findall(r"^\| `streamer-worker ([a-z]+)", README, re.MULTILINE)
    assert set(rows) == set(get_command(cli).commands)  # type: ignore[attr-defined]
    for name in rows:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_its_settings_exist_with_those_defaults() -> None:
    """The few that it names; the others are in docs/settings.md."""
    rows = re.findall(r"^\| `(STREAMER_\w+)`.*? \| (.*?) \|", README, re.MULTILINE)
    assert len(rows) == 5
    known = {variable_of(name): name for name in setting_names()}
    for variable, told in rows:
        default: Any = Settings()
        for part in known[variable].split("."):
            default = getattr(default, part)
        assert told == (value_text(default) or "AWS's own"), variable


def test_the_example_plugin_is_a_package_of_its_own() -> None:
    """It names its handlers in the worker's group of entry points."""
    text = (ROOT / "examples" / "reports-plugin" / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    assert set(project["entry-points"]["streamer_worker.handlers"]) == {
        "reports",
        "count_words",
    }


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        *(f"docs/{each}.md" for each in _PAGES),
    ],
)
def test_what_it_points_to_exists(page: str) -> None:
    """Links, and every file that is named in the tables."""
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    files = re.findall(r"`((?:store|worker|tests|deploy|examples)/[\w./-]+)`", text)
    folder = (ROOT / page).parent
    assert [name for name in links if not (folder / name).exists()] == []
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_the_map_of_the_packages_is_complete() -> None:
    """Every file that it names is there, and it names every folder of the worker."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:\w+/)*\w+\.py|\w+/(?:\w+/)*)`", text))
    packages = [ROOT / "worker/streamer_worker", ROOT / "store/streamer_store"]
    known = [name for name in named if any((folder / name).exists() for folder in packages)]
    assert [name for name in named - {*known} if not (ROOT / name).exists()] == []
    folders = {f"{each.parent.name}/" for each in packages[0].glob("*/__init__.py")}
    assert folders <= named
    assert len(known) > 30
