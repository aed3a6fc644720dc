"""The examples pass `mypy --strict`, as users write them into their own packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from guide.test_handlers_page import BLOCKS
from processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def strict(folder: Path, *places: str) -> None:
    """Check the types of these files and folders, without the configuration of this project."""
    checked = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
            *("--cache-dir", str(folder / "cache"), *places),
        ],
        cwd=folder,
        env=os.environ | {"MYPYPATH": os.pathsep.join(_sources(folder))},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _sources(folder: Path) -> list[str]:
    plugin = ROOT / "examples" / "reports-plugin" / "src"
    return [str(path) for path in (folder / "src", plugin, ROOT / "store", ROOT / "worker")]


def test_the_examples_are_typed(tmp_path: Path) -> None:
    """They are the blocks of README.md, the package of docs/handlers.md, and examples/."""
    for block in BLOCKS:
        if block.language == "python":
            path = tmp_path / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(block.text)
    blocks = _PYTHON.findall((ROOT / "README.md").read_text())
    assert len(blocks) >= 3
    for number, text in enumerate(blocks):
        (tmp_path / f"readme_{number}.py").write_text(text)
    examples = [str(path) for path in sorted((ROOT / "examples").rglob("*.py"))]
    # A folder of tests has no package: each conftest.py would be the module of the same name.
    alone = [path for path in examples if path.endswith("conftest.py")]
    strict(tmp_path, ".", *(path for path in examples if path not in alone))
    for conftest in alone:
        strict(tmp_path, conftest)
