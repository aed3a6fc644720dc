"""docs/ is a site that builds without warnings."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ROOT

SITE = runpy.run_path(str(ROOT / "docs" / "site.py"))


def build(repository: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of `make site` on a copy of the pages."""
    return subprocess.run(  # noqa: S603
        [sys.executable, repository / "docs" / "site.py", folder],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of all pages, and of what builds them."""
    copy = tmp_path / "repository"
    shutil.copytree(ROOT / "docs", copy / "docs")
    for page in ROOT.glob("*.md"):
        shutil.copy(page, copy)
    return copy


def test_the_site_has_every_page_and_a_search(copied: Path, tmp_path: Path) -> None:
    """Each page is built, is in the search, and its links lead to pages of the site."""
    built = build(copied, tmp_path / "built")
    assert built.returncode == 0, built.stdout + built.stderr
    site = tmp_path / "built" / "site"
    found = {entry["location"].partition("#")[0] for entry in search_items(site)}
    for name in SITE["site_names"]().values():
        page = "" if name == "index.md" else f"{name.removesuffix('.md')}/"
        assert (site / page / "index.html").exists(), name
        assert page in found, name
    text = (site / "llms.txt").read_text()
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (site / link / "index.html").exists(), link


def search_items(site: Path) -> list[dict[str, str]]:
    items: list[dict[str, str]] = json.loads((site / "search.json").read_text())["items"]
    return items


@pytest.mark.parametrize("link", ["settings.md#no-such-heading", "no-such-page.md"])
def test_a_dead_link_is_an_error(copied: Path, tmp_path: Path, link: str) -> None:
    """A link to a heading or a page that does not exist ends the build."""
    page = copied / "docs" / "glossary.md"
    page.write_text(f"{page.read_text()}\n[dead]({link})\n")
    assert build(copied, tmp_path / "built").returncode != 0


def test_llms_txt_names_every_page_of_docs() -> None:
    """docs/llms.txt has a line for each page in docs/."""
    linked = set(re.findall(r"\]\((.*?)\)", (ROOT / "docs" / "llms.txt").read_text()))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} | {"../README.md"}
