"""Builds the documentation as a site that can be searched: `make site`.

The pages are those of docs/, and README, CHANGELOG, CONTRIBUTING and SECURITY. A page of the
navigation that does not exist, and a link to a page or heading that does not exist, is an error.
"""

from __future__ import annotations

import os.path
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent
ROOT: Final = DOCS.parent
# Pages of the top folder, and their names in the site.
_TOP: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK: Final = re.compile(r"(!?)\[([^\]]+)\]\(([^)#:\s]*)(#[^)\s]*)?\)")
# GitHub numbers the second of two equal headings with "-", and the site with "_".
_SECOND: Final = re.compile(r"\(#([a-z]+)-(\d)\)")
_LLMS: Final = "llms.txt"


def build(folder: Path) -> Path:
    """Build the site below `folder`, whose earlier content is deleted, and return its folder.

    Raises subprocess.CalledProcessError if there are warnings.
    """
    if folder.exists():
        shutil.rmtree(folder)
    pages = folder / "pages"
    pages.mkdir(parents=True)
    sources = site_names()
    for source, name in sources.items():
        text = _SECOND.sub(r"(#\1_\2)", site_text(source, sources))
        (pages / name).write_text(text)
    if (DOCS / "images").exists():
        shutil.copytree(DOCS / "images", pages / "images")
    (pages / _LLMS).write_text("".join(_llms_text(sources)))
    shutil.copy(DOCS / "zensical.toml", folder)
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", folder / "zensical.toml"],
        check=True,
    )
    return folder / "site"


def site_names() -> dict[Path, str]:
    """Return the pages, and the name of each in the site."""
    return {page: page.name for page in sorted(DOCS.glob("*.md"))} | {
        ROOT / source: name for source, name in _TOP.items()
    }


def site_text(page: Path, sources: dict[Path, str]) -> str:
    """Return the text of a page with links that work in the site.

    What is linked and is no page becomes text: the site has no files of the repository.
    """

    def replace(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        path = Path(os.path.normpath(page.parent / target))
        if path in sources and target:
            return f"{picture}[{text}]({sources[path]}{anchor or ''})"
        if path.is_relative_to(DOCS / "images"):
            return f"{picture}[{text}]({path.relative_to(DOCS)})"
        if not target or path.suffix == ".md":
            return match[0]
        return text if target.strip("/") in text.strip("/`") else f"{text} (`{_shown(path)}`)"

    return _LINK.sub(replace, page.read_text())


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _llms_text(sources: dict[Path, str]) -> Iterator[str]:
    """Yield the lines of llms.txt, with the addresses of the site."""
    by_name = {
        page.relative_to(DOCS): name for page, name in sources.items() if DOCS in page.parents
    }
    for line in (DOCS / _LLMS).read_text().splitlines(keepends=True):
        for path, name in by_name.items():
            line = line.replace(f"({path})", f"({name.removesuffix('.md')}/)")  # noqa: PLW2901
        yield line.replace("(../README.md)", "(./)")


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))  # noqa: T201
