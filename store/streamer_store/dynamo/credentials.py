"""Credential programs (`credential_process`) that are slow, or do not answer.

botocore runs the program within the call that needs credentials. It waits without a limit, and
leaves the program running when the wait is cancelled. Here a program and the waits for it have
limits of their own:

- A wait ends before its call does. botocore then goes on with the credentials that it has, as
  long as they are valid. Otherwise the call fails, and the next call waits for the same run.
- A program that has not answered within `PROGRAM_SECONDS` is killed, and the next call runs it
  anew.
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
# What a run has written is used by a later call only if that call comes this soon.
_FRESH_SECONDS: Final = 60.0
_KILLED_WITHIN: Final = 1.0
_BUILDER: Final = "_profile_provider_builder"
_CREATE: Final = "_create_process_provider"


@dataclass(frozen=True, slots=True)
class _Output:
    stdout: bytes
    stderr: bytes
    returncode: int | None
    at: float


class CredentialPrograms:
    """The credential programs of one session. `wait` is the limit of one wait, in seconds.

    Made before the session's first client. `region` is that of the client: roles are assumed
    there, unless a profile says otherwise.
    """

    def __init__(self, session: AioSession, region: str | None) -> None:
        if region is not None:
            session.set_config_variable("region", region)
        self.wait = PROGRAM_SECONDS
        self._runs: dict[tuple[str, ...], asyncio.Task[_Output]] = {}
        for provider in session.get_component("credential_provider").providers:
            self._take_over(provider)
            # A role may be assumed with the credentials of a program.
            builder = getattr(provider, _BUILDER, None)
            create = getattr(builder, _CREATE, None)
            if create is not None:
                setattr(builder, _CREATE, self._taking_over(create))

    async def close(self) -> None:
        """Kill what still runs, and wait until it has ended."""
        runs = list(self._runs.values())
        self._runs.clear()
        for run in runs:
            run.cancel()
        if runs:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(runs, timeout=_KILLED_WITHIN)

    async def output(self, command: tuple[str, ...], options: dict[str, Any]) -> _Output:
        """Return what the program writes. Raises CredentialRetrievalError after `wait`."""
        run = self._runs.get(command)
        if run is None or _is_stale(run):
            # No task group: the run outlives the call that starts it, and `close` ends it.
            run = asyncio.create_task(_run(command, options))  # noqa: TID251
            self._runs[command] = run
        try:
            with anyio.fail_after(self.wait):
                return await asyncio.shield(run)
        except TimeoutError:
            raise CredentialRetrievalError(
                provider=AioProcessProvider.METHOD,
                error_msg=f"the program did not answer within {self.wait:g} s",
            ) from None
        finally:
            if run.done() and self._runs.get(command) is run:
                del self._runs[command]

    def _taking_over(self, create: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: self._take_over(create(*given, **named))

    def _take_over(self, provider: Any) -> Any:
        if isinstance(provider, AioProcessProvider):
            # The constructor has a parameter for it, and botocore's own code calls the constructor.
            vars(provider)["_popen"] = self._popen
        return provider

    async def _popen(self, *command: str, **options: Any) -> _Program:
        return _Program(self, command, options)


class _Program:
    """As much of a process as botocore uses."""

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
            with anyio.move_on_after(_KILLED_WITHIN, shield=True):
                await process.communicate()  # without it, its pipes stay open
    message = f"the program was killed, as it did not answer within {PROGRAM_SECONDS:g} s"
    return _Output(b"", message.encode(), None, asyncio.get_running_loop().time())


def _is_stale(run: asyncio.Task[_Output]) -> bool:
    """Whether a run has ended, and what it wrote is of no use to a later call."""
    if not run.done():
        return False
    if run.cancelled() or run.exception() is not None or run.result().returncode != 0:
        return True
    return asyncio.get_running_loop().time() - run.result().at > _FRESH_SECONDS
