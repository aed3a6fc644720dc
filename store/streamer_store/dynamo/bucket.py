"""Files under a prefix in a bucket of Amazon S3, for exports."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from streamer_store.dynamo.connecting import client_config, default_region, new_session
from streamer_store.errors import AccessDenied, ConcurrentModification, TargetFailed

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_CONNECT_TIMEOUT: Final = 5.0
_READ_TIMEOUT: Final = 60.0
_CONNECTIONS: Final = 10
_ATTEMPTS: Final = 5
# Amazon S3 API Reference, "Error responses".
_ABSENT: Final = frozenset({"404", "NoSuchKey"})
_DENIED: Final = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
    }
)
_CHANGED: Final = frozenset({"412", "ConditionalRequestConflict", "PreconditionFailed"})


@asynccontextmanager
async def open_bucket(bucket: str, prefix: str, *, region: str | None) -> AsyncIterator[Bucket]:
    """Open a prefix of a bucket. Raises TargetFailed; AccessDenied.

    `region`: by default the AWS settings decide, as they decide the endpoint and the credentials.
    """
    name = f"s3://{bucket}/{prefix}".rstrip("/")
    config = client_config(
        AIOHTTPSession,
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        max_connections=_CONNECTIONS,
        attempts=_ATTEMPTS,
    )
    with _translate_errors(name):
        session = new_session()
        context = session.create_client(
            "s3", region_name=region or default_region(session), config=config
        )
        try:
            client = await context.__aenter__()
        except ValueError as error:  # botocore raises it for an endpoint that is not a URL
            raise TargetFailed(f"{name}: AWS settings: {error}") from error
    try:
        yield Bucket(client, bucket=bucket, prefix=prefix, name=name)
    finally:
        await context.__aexit__(None, None, None)


class Bucket:
    """Implements the Target of an export. `name`: what errors call it.

    Two writers cannot be kept apart by a lock. A fenced write has a condition instead: the object
    is the one that this writer has read or written last (conditional writes of S3).
    """

    def __init__(self, client: S3Client, *, bucket: str, prefix: str, name: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._name = name
        self._seen: dict[str, str] = {}  # the ETag of each object, by its name

    def __str__(self) -> str:
        return self._name

    @asynccontextmanager
    async def files(self) -> AsyncIterator[AsyncIterator[tuple[str, int]]]:
        async with aclosing(self._list()) as files:
            yield files

    async def _list(self) -> AsyncGenerator[tuple[str, int]]:
        arguments: dict[str, Any] = {}
        while True:
            with _translate_errors(self._name):
                page = await self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix, **arguments
                )
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(self._prefix)
                if name:  # the console creates an object for a folder
                    yield name, entry["Size"]
            if not page.get("IsTruncated"):
                return
            arguments = {"ContinuationToken": page["NextContinuationToken"]}

    async def read(self, name: str, *, at_most: int) -> bytes | None:
        with _translate_errors(self._name):
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    self._seen.pop(name, None)
                    return None
                raise
            async with answer["Body"] as body:
                size = answer["ContentLength"]
                if size > at_most:
                    raise TargetFailed(f"{self}/{name} is larger than {at_most:,} bytes")
                data: bytes = await body.read()
        self._seen[name] = answer["ETag"]
        return data

    async def write(self, name: str, data: bytes, *, fenced: bool = False) -> None:
        condition: dict[str, Any] = {}
        if fenced:
            seen = self._seen.get(name)
            condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
        with _translate_errors(self._name):
            try:
                answer = await self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    Body=io.BytesIO(data),  # aiohttp warns of long bytes
                    ContentLength=len(data),
                    ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                    **condition,
                )
            except ClientError as error:
                if not fenced or _code(error) not in _CHANGED | _ABSENT:
                    raise
                await self._require_own(name, data, error)
                return
        self._seen[name] = answer["ETag"]

    async def delete(self, name: str, *, fenced: bool = False) -> None:
        if fenced:
            seen = self._seen.get(name)
            await self.read(name, at_most=1 << 40)
            if self._seen.get(name) not in {seen, None}:
                raise self._changed()
        with _translate_errors(self._name):
            await self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)
        self._seen.pop(name, None)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        yield

    async def _require_own(self, name: str, data: bytes, error: ClientError) -> None:
        """Accept an object that is ours: the client sends a write again after a lost answer."""
        seen = self._seen.get(name)
        if await self.read(name, at_most=1 << 40) != data:
            if seen is not None:
                self._seen[name] = seen
            raise self._changed() from error

    def _changed(self) -> ConcurrentModification:
        return ConcurrentModification(f"another export writes to {self}")


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, message = _code(error), error.response.get("Error", {}).get("Message", "")
        if code == "NoSuchBucket":
            raise TargetFailed(f"{name}: there is no such bucket") from error
        operation = error.operation_name
        if code in _DENIED:
            raise AccessDenied(f"{name}: {code}: {message}", operation=operation) from error
        raise TargetFailed(f"{name}: {code}: {message}", operation=operation) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(f"{name}: no usable AWS credentials: {error}") from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise TargetFailed(f"{name}: {str(error) or type(error).__name__}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
