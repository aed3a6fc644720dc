"""A test that does not end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hanging
from processes import PATIENCE

HANGS = """
import anyio
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1)]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def never():
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def test_shielded():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(never)
"""
HOOK = "from hanging import pytest_timeout_set_timer\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("processes", [(), ("-n", "1", "--max-worker-restart=0")], ids=["one", "n"])
def test_it_ends_the_run_and_shows_what_waits(
    processes: tuple[str, ...], backend: str, tmp_path: Path
) -> None:
    """Also one whose teardown would hang in the same way."""
    (tmp_path / "conftest.py").write_text(HOOK)
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-q", *processes, "-k", backend, "test_it.py"]
    done = subprocess.run(  # noqa: S603
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(hanging.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert f"test_it.py::test_shielded[{backend}] did not end within 1 s" in done.stderr
    assert " in never\n" in done.stderr
    assert " in test_shielded\n" in done.stderr
    assert "most recent call first" in done.stderr
