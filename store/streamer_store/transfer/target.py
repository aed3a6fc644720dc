"""Where an export is: the interface of a directory and of a prefix in S3."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Final, Protocol

from streamer_store.errors import ValidationError

_S3: Final = "s3://"
# Amazon S3 User Guide, "General purpose bucket naming rules", and access points by their ARN.
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:[\w:/.-]+", re.ASCII)


class Target(Protocol):
    """Named files. A name has `/` between its folders.

    Every method raises TargetFailed, or AccessDenied, with the name of the target.
    """

    def files(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """Give the name and the size of each file. Unfinished files are left out."""
        ...

    async def read(self, name: str, *, at_most: int) -> bytes | None:
        """Return a file, or None if there is none. Raises TargetFailed if it is larger."""
        ...

    async def write(self, name: str, data: bytes, *, fenced: bool = False) -> None:
        """Write a whole file, durably: a reader sees the earlier file, or all of this one.

        `fenced`: raise ConcurrentModification if another writer has replaced the file since this
        object has read or written it.
        """
        ...

    async def delete(self, name: str, *, fenced: bool = False) -> None:
        """Delete a file. Succeeds if there is none. `fenced`: as in `write`."""
        ...

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Keep other writers out, where the target can. Raises ConcurrentModification.

        A prefix in S3 cannot. There, `fenced` stops the writer that began first.
        """
        ...


@asynccontextmanager
async def open_target(
    target: str | PathLike[str], *, region: str | None = None
) -> AsyncIterator[Target]:
    """Open a directory, or `s3://bucket/prefix`. `region`: of S3. None: the AWS settings decide.

    Raises ValidationError, and what opening a client raises.
    """
    text = fspath(target)
    if not text.startswith(_S3):
        from streamer_store.transfer.directory import Directory

        if not text:
            raise ValidationError("target", "is empty: name a directory, or s3://bucket/prefix")
        if "://" in text:
            raise ValidationError("target", f"{text[:200]} is neither a directory nor s3://…")
        yield Directory(Path(text))
        return
    bucket, _, prefix = text.removeprefix(_S3).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValidationError("target", f"{text[:200]} names no bucket: s3://bucket/prefix")
    from streamer_store.dynamo.bucket import open_bucket

    async with open_bucket(bucket, prefix.strip("/"), region=region) as opened:
        yield opened
