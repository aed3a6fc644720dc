"""Each label of docs/invariants.md stands in the code and in tests, and no other label does."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# At least four letters: UTF-8 and the like are no labels.
LABEL = re.compile(r"\b[A-Z]{4,}-[0-9]+\b")
PAGE = (ROOT / "docs" / "invariants.md").read_text()
CODE = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in ("store", "worker")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TESTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if path.name != "test_invariants.py"
}


def mistakes(page: str, code: Mapping[str, str], tests: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the labels of a page, of code and of tests, by file name."""
    documented = re.findall(rf"^\| ({LABEL.pattern}) \|", page, re.MULTILINE)
    held = {label for text in code.values() for label in LABEL.findall(text)}
    proved = {label for text in tests.values() for label in proved_by(text)}
    used = {
        (name, label)
        for name, text in [*code.items(), *tests.items(), ("the page", page)]
        for label in LABEL.findall(text)
    }
    return [
        *numbering_mistakes(documented),
        *(f"{label} is in no code" for label in documented if label not in held),
        *(f"no test proves {label}" for label in documented if label not in proved),
        *(f"{name} has {label}" for name, label in sorted(used) if label not in documented),
    ]


def proved_by(text: str) -> Iterator[str]:
    """Yield the labels after "Proves" in the docstrings of the tests in a file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "test_" in node.name:
            sentences = re.findall(r"\bProves ([^.]*)\.", ast.get_docstring(node) or "")
            yield from LABEL.findall(" ".join(sentences))


def numbering_mistakes(documented: Iterable[str]) -> Iterator[str]:
    """Yield the labels that do not continue the numbers of their name, which begin with 1."""
    last: dict[str, int] = {}
    for label in documented:
        name, number = label.rsplit("-", 1)
        last[name] = last.get(name, 0) + 1
        if number != str(last[name]):
            yield f"{label} should be {name}-{last[name]}"


def test_every_label_is_documented_held_and_proved() -> None:
    """A label is in a table of the page, in the code, and after "Proves" in a test's docstring."""
    assert len(re.findall(rf"^\| {LABEL.pattern} \|", PAGE, re.MULTILINE)) > 15
    assert mistakes(PAGE, CODE, TESTS) == []


GOOD_PAGE = "See ALPHA-2.\n\n| ALPHA-1 | rule |\n| ALPHA-2 | rule |\n| BETA-1 | rule |\n"
GOOD_CODE = "# ALPHA-1: reason\n# ALPHA-2, BETA-1: reason\n"
GOOD_TEST = '''
async def test_a() -> None:
    """It holds. Proves ALPHA-1 and ALPHA-2."""

def test_b() -> None:
    """It holds.

    Proves BETA-1.
    """
'''


def test_right_labels_are_no_mistakes() -> None:
    """The texts that the next test changes have no mistakes themselves."""
    assert mistakes(GOOD_PAGE, {"a.py": GOOD_CODE}, {"test_a.py": GOOD_TEST}) == []


@pytest.mark.parametrize(
    ("page", "code", "test", "expected"),
    [
        (GOOD_PAGE, GOOD_CODE.replace("BETA-1", ""), GOOD_TEST, "BETA-1 is in no code"),
        (GOOD_PAGE, GOOD_CODE, GOOD_TEST.replace(" and ALPHA-2", ""), "no test proves ALPHA-2"),
        (GOOD_PAGE, GOOD_CODE, GOOD_TEST.replace("Proves B", "See B"), "no test proves BETA-1"),
        (GOOD_PAGE, GOOD_CODE + "# BETA-2: reason", GOOD_TEST, "a.py has BETA-2"),
        (GOOD_PAGE, GOOD_CODE, GOOD_TEST + "# GAMMA-1", "test_a.py has GAMMA-1"),
        (GOOD_PAGE + "See BETA-7.", GOOD_CODE, GOOD_TEST, "the page has BETA-7"),
        (GOOD_PAGE.replace("| ALPHA-1 | rule |\n", ""), "", "", "ALPHA-2 should be ALPHA-1"),
        (GOOD_PAGE + "| BETA-3 | rule |\n", "", "", "BETA-3 should be BETA-2"),
        (GOOD_PAGE + "| BETA-1 | rule |\n", "", "", "BETA-1 should be BETA-2"),
    ],
)
def test_every_kind_of_mistake_is_found(page: str, code: str, test: str, expected: str) -> None:
    """A label that is missing, unknown, or out of order is named with its place."""
    assert expected in mistakes(page, {"a.py": code}, {"test_a.py": test})
