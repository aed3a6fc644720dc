"""The promises of README.md hold, and every page links only to files that exist."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from processes import ROOT
from streamer_store import RequestStatus, open_stores
from streamer_worker.cli.main import cli
from streamer_worker.settings import Settings, setting_names, value_text, variable_of

README = (ROOT / "README.md").read_text()
_PAGES = sorted(
    str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)


def example(name: str) -> str:
    """Return the code block under `<!-- example: name -->`."""
    block = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert block is not None, name
    return block.group(1)


def test_the_first_paragraph_is_short() -> None:
    """The paragraph under the title has at most five lines."""
    paragraph = README.split("\n\n")[1]
    assert len(paragraph.splitlines()) <= 5


def test_the_first_handler_has_twenty_lines() -> None:
    """The code and the packaging of the first handler have at most 20 lines each."""
    files = re.findall(r"<!-- file: \S+ -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert len(files) == 2
    assert all(len(text.strip().splitlines()) <= 20 for text in files)


@pytest.mark.anyio
async def test_the_producer_enqueues(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer example stores a PENDING request."""
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
    """The storage example prints a completed request with its result, and an error."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    names: dict[str, Any] = {}
    exec(example("store"), names)  # noqa: S102  the README is ours
    await names["main"]()
    output = capsys.readouterr().out
    assert "COMPLETED {'url': 'https://example.com/report.pdf'}" in output
    assert "no such connection" in output


def test_the_table_of_commands_is_complete() -> None:
    """The README lists every command, and every listed command has --help."""
    rows = re.findall(r"^\| `streamer-worker ([a-z]+)", README, re.MULTILINE)
    assert set(rows) == set(get_command(cli).commands)  # type: ignore[attr-defined]
    for name in rows:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_the_settings_have_the_listed_defaults() -> None:
    """Each setting in the README exists and has the default that the README gives."""
    rows = re.findall(r"^\| `(STREAMER_\w+)`.*? \| (.*?) \|", README, re.MULTILINE)
    assert len(rows) == 5
    known = {variable_of(name): name for name in setting_names()}
    for variable, listed in rows:
        default: Any = Settings()
        for part in known[variable].split("."):
            default = getattr(default, part)
        assert listed == (value_text(default) or "AWS's own"), variable


def test_the_example_plugin_declares_its_handlers() -> None:
    """The example plugin names its handlers in the worker's group of entry points."""
    text = (ROOT / "examples" / "reports-plugin" / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    assert set(project["entry-points"]["streamer_worker.handlers"]) == {
        "reports",
        "count_words",
    }


@pytest.mark.parametrize("page", _PAGES)
def test_links_and_named_files_exist(page: str) -> None:
    """Each relative link and each file path in code format exists."""
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    files = re.findall(r"`((?:store|worker|tests|deploy|examples)/[\w./-]+)`", text)
    folder = (ROOT / page).parent
    assert [name for name in links if not (folder / name).exists()] == []
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", _PAGES)
def test_links_to_sections_exist(page: str) -> None:
    """Each link with an anchor names a heading of its page."""
    path = ROOT / page
    for name, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", path.read_text()):
        target = path.parent / name if name else path
        assert anchor in anchors(target.read_text()), f"{name}#{anchor}"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    names: set[str] = set()
    outside_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", outside_code, re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        copies = sum(f"{name}-{number}" in names for number in range(1, 10)) + (name in names)
        names.add(f"{name}-{copies}" if copies else name)
    return names


def test_the_map_of_the_packages_is_complete() -> None:
    """Every file that CONTRIBUTING.md names exists, and every folder of the worker is named."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:\w+/)*\w+\.py|\w+/(?:\w+/)*)`", text))
    packages = [ROOT / "worker/streamer_worker", ROOT / "store/streamer_store"]
    known = [name for name in named if any((folder / name).exists() for folder in packages)]
    assert [name for name in named - {*known} if not (ROOT / name).exists()] == []
    folders = {f"{init.parent.name}/" for init in packages[0].glob("*/__init__.py")}
    assert folders <= named
    assert len(known) > 30
