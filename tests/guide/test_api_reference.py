"""The generator of docs/api.md shows signatures, fields and docstrings as the source has them."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from typing import TYPE_CHECKING

import pytest

from processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

package_reference = runpy.run_path(str(ROOT / "docs" / "api_reference.py"))["package_reference"]

SOURCE = '''
"""An example package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from processes import environment

__all__ = ["Alias", "Quoted", "Record", "Service", "alias", "environment", "read"]

Alias = dict[str, Any]
"""An alias."""

Quoted: TypeAlias = "Alias | None"


class _Base(Exception):
    """The base.

    - `inherited`: from the base.
    """

    inherited: int = 1


@dataclass
class Record(_Base):
    """A record.

    - `first`, `second`: two fields.
    - `other`: no field.
    """

    first: str
    second: list[int] = field(default_factory=list, repr=False)
    third: int = dataclasses.field(default=3)
    """The third field."""
    _hidden: int = 0

    @property
    def size(self) -> int:
        """The size."""
        return 0


class Service:
    def __init__(self, clock: Any, /, *, rng: Any = None) -> None:
        self.clock = clock

    async def run(self, *names: str, limit: int | None = None, **options: Any) -> None:
        """Run it.

        >>> 1 + 1
        2
        """

    def _private(self) -> None: ...


def alias() -> None: ...


def read(
    path_of_the_file: str, encoding_of_the_file: str = "utf-8", *, most_bytes: int = 10
) -> bytes:
    """Read a file."""
'''


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "example_package.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("example_package", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_package"] = module
    spec.loader.exec_module(module)
    yield package_reference(module)
    del sys.modules["example_package"]


def test_the_section_begins_with_docstring_and_links(page: str) -> None:
    """Each name has a link. Names that differ only in case have different anchors."""
    assert page.startswith("## example_package\n\nAn example package.\n\n[`Alias`](#alias) · ")
    assert "[`alias`](#alias-1)" in page


def test_an_alias_has_its_value_and_docstring(page: str) -> None:
    """The string that follows an assignment is its docstring."""
    assert "### Alias\n\n```python\nAlias = dict[str, Any]\n```\n\nAn alias.\n" in page
    assert "### Quoted\n\n```python\nQuoted = Alias | None\n```\n" in page


def test_fields_have_types_defaults_and_texts(page: str) -> None:
    """Texts come from the strings after the fields, and from lists in the docstrings."""
    _, _, record = page.partition("### Record\n")
    assert record.partition("### Service")[0].strip().splitlines() == [
        "```python",
        "class Record(Exception)",
        "```",
        "",
        "A record.",
        "",
        "- `other`: no field.",
        "",
        "- `inherited: int = 1`: from the base.",
        "- `first: str`: two fields.",
        "- `second: list[int] = []`: two fields.",
        "- `third: int = 3`: The third field.",
        "- `size: int`: The size.",
    ]


def test_signatures_are_those_of_the_source(page: str) -> None:
    """Markers and kinds of parameters are kept, `self` and private methods are left out."""
    assert "class Service\n\nService(clock: Any, /, *, rng: Any = None)\n" in page
    assert "async def run(*names: str, limit: int | None = None, **options: Any) -> None\n" in page
    assert "_private" not in page


def test_a_long_signature_has_a_line_for_each_parameter(page: str) -> None:
    """A signature that does not fit on a line is broken at its parameters."""
    assert "def read(\n    path_of_the_file: str,\n" in page
    assert (
        "    encoding_of_the_file: str = 'utf-8',\n    *,\n    most_bytes: int = 10,\n) -> bytes\n"
        in page
    )


def test_a_name_that_is_imported_when_it_is_used_has_its_definition(page: str) -> None:
    """Type checkers and the reference find its import under TYPE_CHECKING."""
    assert "def environment(**more: str) -> dict[str, str]\n" in page


def test_examples_are_blocks_of_code(page: str) -> None:
    """A paragraph of a docstring that begins with >>> is an example."""
    assert "Run it.\n\n```pycon\n>>> 1 + 1\n2\n```" in page
