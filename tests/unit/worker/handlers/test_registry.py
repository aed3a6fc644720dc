"""Finding handlers through entry points."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pytest

from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.registry import GROUP, load_handlers, registry
from unit.worker.harness import echo

PLUGIN = """
from streamer_worker import handler

@handler("report")
async def report(payload, ctx):
    return payload

@handler("report")
async def another(payload, ctx):
    return payload

@handler("bulk")
async def bulk(payload, ctx):
    return payload

async def bare(payload, ctx):
    return payload
"""
BROKEN = {
    "plug_missing": "import no_such_library_at_all",
    "plug_raising": "raise RuntimeError('no licence')",
    "plug_exiting": "import sys; sys.exit('bye')",
    "plug_syntax": "def (:",
    "plug_interrupting": "raise KeyboardInterrupt",
    "plug_custom": "class Odd(BaseException): ...\nraise Odd('custom')",
    "plug_mute": (
        "class Mute(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Mute"
    ),
}


class Installed(Distribution):
    """A distribution that has only a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def metadata(self) -> Any:
        return {"Name": self._name, "Version": "1.2"}

    def read_text(self, filename: str) -> str | None:
        del filename
        return None

    def locate_file(self, path: Any) -> Any:
        return Path(path)


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    for name, text in {"plug_good": PLUGIN, **BROKEN}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plug_"):
            del sys.modules[name]


def entry(distribution: str, name: str, value: str) -> EntryPoint:
    entry = EntryPoint(name=name, value=value, group=GROUP)
    entry._for(Installed(distribution))  # type: ignore[attr-defined]
    return entry


def faults(*entries: EntryPoint) -> list[str]:
    with pytest.raises(HandlerLoadError) as caught:
        load_handlers(entries)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_handlers_are_found_by_action() -> None:
    """The name of the entry point does not matter."""
    handlers = load_handlers(
        [
            entry("reports", "one", "plug_good:report"),
            entry("tools", "two", "plug_good:bulk"),
        ]
    )
    assert sorted(handlers) == ["bulk", "report"]
    assert handlers["bulk"].function.__name__ == "bulk"


def test_installed_entry_points_are_loaded_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are used when no entry points are passed."""

    def installed(*, group: str) -> list[EntryPoint]:
        return [entry("reports", "one", "plug_good:report")] if group == GROUP else []

    monkeypatch.setattr("streamer_worker.handlers.registry.entry_points", installed)
    assert list(load_handlers()) == ["report"]
    assert callable(importlib.metadata.entry_points)


def test_without_entry_points_the_registry_is_empty() -> None:
    """It raises nothing."""
    assert load_handlers([]) == {}


def test_two_plugins_with_one_action_are_a_fault() -> None:
    """It names both distributions and entry points, in any order of loading."""
    first = entry("reports", "one", "plug_good:report")
    second = entry("tools", "two", "plug_good:another")
    for order in ([first, second], [second, first]):
        (fault,) = faults(*order)
        for text in ("'report'", "reports", "tools", "plug_good:report", "plug_good:another"):
            assert text in fault


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plug_missing:x", "no_such_library_at_all"),
        ("plug_raising:x", "RuntimeError: no licence"),
        ("plug_exiting:x", "SystemExit: bye"),
        ("plug_syntax:x", "SyntaxError"),
        ("plug_interrupting:x", "KeyboardInterrupt"),
        ("plug_custom:x", "Odd: custom"),
        ("plug_mute:x", "Mute"),
        ("plug_nowhere:x", "plug_nowhere"),
        ("plug_good:nothing", "nothing"),
        ("plug_good:bare", "function without the decorator @handler"),
        ("plug_good", "module"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_a_fault(value: str, text: str) -> None:
    """It names distribution, entry point and reason. SystemExit does not end the worker."""
    (fault,) = faults(entry("tools", "thing", value))
    assert fault.startswith(f"tools (thing = {value})")
    assert text in fault


def test_middleware_that_cannot_be_loaded_is_a_fault() -> None:
    """It is in the same list, whatever the import raises."""
    with pytest.raises(HandlerLoadError) as caught:
        load_handlers([], [entry("tools", "around", "plug_interrupting:x")])
    (fault,) = caught.value.faults
    assert fault == "tools (around = plug_interrupting:x): KeyboardInterrupt: KeyboardInterrupt"


def test_two_distributions_with_one_module_name_get_a_hint() -> None:
    """Python imports one module for both, so a name of the other is missing."""
    good = entry("reports", "one", "plug_good:report")
    (fault,) = faults(good, entry("tools", "two", "plug_good:nothing"))
    assert "distributions reports, tools have a module 'plug_good' each" in fault
    (fault,) = faults(good, entry("tools", "two", "plug_good:report"))
    assert "claimed twice" in fault
    assert "distributions reports, tools have a module 'plug_good' each" in fault
    (fault,) = faults(entry("tools", "two", "plug_good:nothing"))
    assert "rename" not in fault


def test_all_faults_are_reported_together() -> None:
    """One start shows every fault."""
    listed = faults(
        entry("a", "one", "plug_good:report"),
        entry("b", "two", "plug_good:another"),
        entry("c", "three", "plug_missing:x"),
        entry("d", "four", "plug_exiting:x"),
    )
    assert len(listed) == 3


def test_an_entry_point_without_distribution_is_named() -> None:
    """The fault is readable without metadata."""
    lonely = EntryPoint(name="x", value="plug_missing:x", group=GROUP)
    (fault,) = faults(lonely)
    assert "unknown distribution (x = plug_missing:x)" in fault


def test_a_registry_can_be_built_without_entry_points() -> None:
    """It is built from handlers directly."""
    assert registry([echo]) == {"echo": echo}
