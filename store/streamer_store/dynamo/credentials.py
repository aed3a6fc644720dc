"""Time limits for credential programs (`credential_process`).

botocore runs the program within the call that needs credentials. botocore waits without a limit,
and leaves the program running when the wait is cancelled. This module sets two limits:

- A wait ends before its call does. botocore then uses the credentials that it has, while they
  are valid. Otherwise the call fails, and the next call waits for the same run.
- A program that has not answered within `PROGRAM_SECONDS` is killed. The next call runs it
  again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiobotocore.credentials import AioProcessProvider
from botocore.exceptions import CredentialRetrievalError

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

PROGRAM_SECONDS: Final = 30.0
# A later call uses the output of a finished run only within this time.
_FRESH_SECONDS: Final = 60.0
_KILL_TIMEOUT: Final = 1.0
_BUILDER: Final = "_profile_provider_builder"
_CREATE: Final = "_create_process_provider"


@dataclass(frozen=True, slots=True)
class _Output:
    """The output of a run. `at`: when it ended, by the event loop's clock."""

    stdout: bytes
    stderr: bytes
    returncode: int | None
    at: float


class CredentialPrograms:
    """Runs the credential programs of one session.

    Set `wait_seconds`, the limit of one wait, before the first call. Not thread-safe: for the
    event loop of the session's clients only.
    """

    def __init__(self, session: AioSession, region: str | None) -> None:
        """Replace the way in which `session` runs programs, before its first client is created.

        `region` is the region of the client. Roles are assumed there, unless a profile names
        another region.
        """
        if region is not None:
            session.set_config_variable("region", region)
        self.wait_seconds = PROGRAM_SECONDS
        self._runs: dict[tuple[str, ...], asyncio.Task[_Output]] = {}
        for provider in session.get_component("credential_provider").providers:
            self._replace_popen(provider)
            # A role may be assumed with the credentials of a program.
            builder = getattr(provider, _BUILDER, None)
            create = getattr(builder, _CREATE, None)
            if create is not None:
                setattr(builder, _CREATE, self._with_own_popen(create))

    async def close(self) -> None:
        """Kill the programs that still run, and wait at most a second for their end."""
        runs = list(self._runs.values())
        self._runs.clear()
        for run in runs:
            run.cancel()
        if runs:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(runs, timeout=_KILL_TIMEOUT)

    async def output(self, command: tuple[str, ...], options: dict[str, Any]) -> _Output:
        """Return the output of a program, from its current run or from a new one.

        Raises CredentialRetrievalError after `wait_seconds`. The program keeps running then.
        """
        run = self._runs.get(command)
        if run is None or _is_stale(run):
            # Not in a task group: the run outlives the call that starts it. `close` ends it.
            run = asyncio.create_task(_run(command, options))  # noqa: TID251
            self._runs[command] = run
        try:
            with anyio.fail_after(self.wait_seconds):
                return await asyncio.shield(run)
        except TimeoutError:
            raise CredentialRetrievalError(
                provider=AioProcessProvider.METHOD,
                error_msg=f"the program did not answer within {self.wait_seconds:g} s",
            ) from None
        finally:
            if run.done() and self._runs.get(command) is run:
                del self._runs[command]

    def _with_own_popen(self, create: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._replace_popen(create(*args, **kwargs))

    def _replace_popen(self, provider: Any) -> Any:
        if isinstance(provider, AioProcessProvider):
            # The constructor has a parameter for it, but botocore itself calls the constructor.
            vars(provider)["_popen"] = self._popen
        return provider

    async def _popen(self, *command: str, **options: Any) -> _Program:
        return _Program(self, command, options)


class _Program:
    """The part of a process that botocore uses: `communicate` and `returncode`."""

    def __init__(
        self, programs: CredentialPrograms, command: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        self._programs = programs
        self._command = command
        self._options = options
        self.returncode: int | None = None

    async def communicate(self) -> tuple[bytes, bytes]:
        output = await self._programs.output(self._command, self._options)
        self.returncode = output.returncode
        return output.stdout, output.stderr


async def _run(command: tuple[str, ...], options: dict[str, Any]) -> _Output:
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        with anyio.move_on_after(PROGRAM_SECONDS):
            stdout, stderr = await process.communicate()
            now = asyncio.get_running_loop().time()
            return _Output(stdout, stderr, process.returncode, now)
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.move_on_after(_KILL_TIMEOUT, shield=True):
                await process.communicate()  # otherwise its pipes remain open
    message = f"the program was killed: it did not answer within {PROGRAM_SECONDS:g} s"
    return _Output(b"", message.encode(), None, asyncio.get_running_loop().time())


def _is_stale(run: asyncio.Task[_Output]) -> bool:
    """Whether a run has ended, and its output is too old or of no use to a later call."""
    if not run.done():
        return False
    if run.cancelled() or run.exception() is not None or run.result().returncode != 0:
        return True
    return asyncio.get_running_loop().time() - run.result().at > _FRESH_SECONDS
