"""Handlers that are named as `module:name`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.references import ReferenceInvalid, add_to_path
from streamer_worker.handlers.registry import load_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = """
from streamer_worker import HandlerGroup, handler

@handler("greet")
async def greet(payload, ctx):
    return {}

again = greet
bank = HandlerGroup()

@bank.handler("pay")
def pay(payload, ctx):
    return {}

@bank.handler("refund")
def refund(payload, ctx):
    return {}

empty = HandlerGroup()

def helper():
    return 1

@handler("greet")
async def another(payload, ctx):
    return {}
"""
BROKEN = {
    "ref_syntax": "x = 1\ndef (:\n",
    "ref_needs": "x = 1\n\nimport no_such_library\n",
    "ref_raises": "def check():\n    raise ValueError('bad value')\n\ncheck()\n",
    "ref_exits": "import sys\nsys.exit('bye')\n",
    "ref_none": "x = 1\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    modules = BROKEN | {"ref_hello": HELLO}
    for name, code in modules.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    add_to_path(tmp_path)
    yield tmp_path
    for name in modules:
        sys.modules.pop(name, None)


def actions(*references: str) -> list[str]:
    return sorted(load_handlers([], [], references=references))


def faults(*references: str) -> list[str]:
    with pytest.raises(HandlerLoadError) as caught:
        load_handlers([], [], references=references)
    return caught.value.faults


def test_a_handler_a_group_and_several() -> None:
    """A name is a handler or a group. All references count."""
    assert actions("ref_hello:greet") == ["greet"]
    assert actions("ref_hello:bank") == ["pay", "refund"]
    assert actions("ref_hello:greet", "ref_hello:pay") == ["greet", "pay"]


def test_the_same_handler_twice_counts_once() -> None:
    """By two references, or by two names in one module."""
    assert actions("ref_hello:greet", "ref_hello:greet", "ref_hello:again") == ["greet"]


def test_a_module_stands_for_all_its_handlers(folder: Path) -> None:
    """Handlers, those of groups, and those that it has imported. Nothing else counts."""
    code = "from ref_hello import bank, empty, greet, helper\n"
    (folder / "ref_all.py").write_text(code)
    assert actions("ref_all") == ["greet", "pay", "refund"]
    assert actions("ref_all", "ref_hello:greet") == ["greet", "pay", "refund"]


def test_the_origin_takes_the_place_of_the_distribution(folder: Path) -> None:
    """It is the module, and its file relative to the current directory."""
    handlers = load_handlers([], [], references=["ref_hello:greet"])
    assert handlers["greet"].distribution == "ref_hello ref_hello.py"
    package = folder / "ref_package"
    package.mkdir()
    (package / "__init__.py").write_text("from ref_hello import greet\n")
    handlers = load_handlers([], [], references=["ref_package:greet"])
    assert handlers["greet"].distribution == "ref_hello ref_hello.py"


def test_two_handlers_of_one_action_are_a_fault() -> None:
    """It names both references."""
    (fault,) = faults("ref_hello:greet", "ref_hello:another")
    assert fault == (
        "action 'greet' is claimed twice: by --handlers ref_hello:greet"
        " and by --handlers ref_hello:another"
    )


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("ref_helo:greet", "there is no module 'ref_helo' in {folder}; did you mean 'ref_hello'?"),
        ("ref_hello.deeper", "there is no module 'ref_hello.deeper' because ref_hello is not a"),
        ("ref_hello:gret", "ref_hello.py has no name 'gret'; did you mean 'greet'?"),
        ("ref_hello:helper", "ref_hello:helper: it is a function without the decorator @handler"),
        ("ref_hello:empty", "ref_hello:empty: it is a HandlerGroup without handlers"),
        ("ref_hello.py:greet", "'ref_hello.py' is not the name of a module: write 'ref_hello'"),
        ("./ref_hello", "'./ref_hello' is not the name of a module: write 'ref_hello'"),
        ("a b", "'a b' is not the name of a module"),
        ("ref_none", "ref_none: no function in ref_none.py has the decorator @handler"),
        ("ref_syntax", "ref_syntax cannot be imported: ref_syntax.py, line 2: invalid syntax"),
        ("ref_needs", "ref_needs.py, line 3: ModuleNotFoundError: No module named 'no_such"),
        ("ref_raises", "ref_raises.py, line 2: ValueError: bad value"),
        ("ref_exits", "ref_exits.py, line 2: SystemExit: bye"),
    ],
)
def test_each_fault_is_one_line(folder: Path, reference: str, expected: str) -> None:
    """It names the file and the line, or the nearest name."""
    (fault,) = faults(reference)
    assert expected.format(folder=folder) in fault
    assert "\n" not in fault


def test_all_faults_are_reported_together() -> None:
    """A good reference among them does not hide them."""
    assert len(faults("ref_syntax", "ref_hello:greet", "ref_none")) == 2


def test_a_missing_app_dir(folder: Path) -> None:
    """It is refused, since its modules would all be missing."""
    with pytest.raises(ReferenceInvalid, match="there is no directory"):
        add_to_path(folder / "nothing")
