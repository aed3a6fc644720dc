"""The Dockerfile, as text; what is built of it is tested in tests/image."""

from __future__ import annotations

import fnmatch
import re
import tomllib

from processes import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


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
    copied += re.findall(r"--mount=type=bind,source=([^,]+)", DOCKERFILE)
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
