"""Answers that portals, proxies, load balancers and emulators give instead of DynamoDB."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

if TYPE_CHECKING:
    from pathlib import Path

    from integration.proxy import Fault, Forward

_DYNAMODB: Final = "application/x-amz-json-1.0"
_PAGE: Final = b"<html><body>Please sign in</body></html>"
# The fields of every good answer together.
_GOOD: Final = {
    "Attributes": {"RequestID": {"S": "r"}, "WorkerID": {"S": "w"}, "StartedAt": {"S": "now"}},
    "Items": [],
    "Count": 0,
    "ScannedCount": 0,
    "Responses": {},
    "UnprocessedKeys": {},
    "UnprocessedItems": {},
}
_WRONG_TYPES: Final = {
    "Item": {"RequestID": {"S": 1}, "Version": ["a"]},
    "Attributes": {"RequestID": {"N": "many"}, "Status": 5},
    "Items": {"a": "map"},
    "Count": "many",
    "Responses": [1],
    "UnprocessedKeys": "none",
    "UnprocessedItems": [{"a": 1}],
    "ConsumedCapacity": "little",
}


def _answering(
    body: bytes,
    *,
    status: int = 200,
    kind: str = "text/html",
    request_id: bool = False,
    **headers: str,
) -> Fault:
    fixed = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fault(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        own = {"x-amzn-RequestId": str(uuid.uuid4())} if request_id else {}
        return web.Response(status=status, body=body, headers=fixed | own | {"Content-Type": kind})

    return fault


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


async def _redirecting(request: web.Request, _forward: Forward) -> web.StreamResponse:
    if request.method == "GET":
        return web.Response(body=_PAGE, content_type="text/html")
    return web.Response(status=302, headers={"Location": "/sign-in"})


async def _truncating(_request: web.Request, forward: Forward) -> web.StreamResponse:
    """Forward the call, and answer with the first half of the answer."""
    answer = await forward()
    assert isinstance(answer.body, bytes)
    body = answer.body[: len(answer.body) // 2]
    headers = {name: value for name, value in answer.headers.items() if name != "x-amz-crc32"}
    del headers["Content-Length"]
    return web.Response(status=answer.status, body=body, headers=headers)


async def _dropping_the_request_id(_request: web.Request, forward: Forward) -> web.StreamResponse:
    """Forward the call, and answer as DynamoDB did, without its request id."""
    answer = await forward()
    del answer.headers["x-amzn-RequestId"]
    return answer


async def _without_end(request: web.Request, _forward: Forward) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": _DYNAMODB, "x-amzn-RequestId": "1"})
    await answer.prepare(request)
    with suppress(ConnectionError):
        while True:
            await answer.write(b" " * 1024 * 1024)
    return answer


RUBBISH: Final[dict[str, Fault]] = {
    "a page": _answering(_PAGE),
    "a page with a request id": _answering(_PAGE, request_id=True),
    "an empty object": _answering(b"{}", kind="application/json"),
    "an empty body": _answering(b"", kind=_DYNAMODB),
    "badly compressed": _answering(
        b"\x1f\x8b\x08 no gzip", kind=_DYNAMODB, Content_Encoding="gzip"
    ),
    "null": _answering(b"null", kind=_DYNAMODB, request_id=True),
    "a list with 400": _answering(b"[1]", status=400, kind=_DYNAMODB, request_id=True),
    "no UTF-8": _answering(b'{"Items": "\xff\xfe"}', kind=_DYNAMODB, request_id=True),
    "fields of a wrong type": _answering(_json(_WRONG_TYPES), kind=_DYNAMODB, request_id=True),
    "half of the answer": _truncating,
    "no request id": _dropping_the_request_id,
    "good fields, no request id": _answering(_json(_GOOD), kind=_DYNAMODB),
    "a wrong checksum": _answering(
        _json(_GOOD), kind=_DYNAMODB, request_id=True, x_amz_crc32=str(zlib.crc32(b"{}"))
    ),
    "a wrong content type": _answering(_json(_GOOD), kind="application/json", request_id=True),
    "a redirect to a page": _redirecting,
    "204": _answering(b"", status=204, request_id=True),
    "another service's words": _answering(
        _json({"__type": "com.amazonaws.kinesis#ValidationException", "message": "no"}),
        status=400,
        kind="application/x-amz-json-1.1",
        request_id=True,
    ),
    "a gateway's refusal": _answering(
        _json({"message": "Missing Authentication Token"}),
        status=403,
        kind="application/json",
        request_id=True,
        x_amzn_ErrorType="ValidationException",
    ),
    "DynamoDB's words without a request id": _answering(
        _json({"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}),
        status=400,
        kind=_DYNAMODB,
    ),
    "too large for a proxy": _answering(_PAGE, status=413),
    "a balancer's 503": _answering(_PAGE, status=503),
    "a list with 500": _answering(b"[1]", status=500, kind=_DYNAMODB, request_id=True),
}


ENDLESS: Final[Fault] = _without_end


def breaking_off(*, stalls: bool) -> Fault:
    """Send the head of an answer and a part of its body, and then nothing, or close."""

    async def fault(request: web.Request, _forward: Forward) -> web.StreamResponse:
        headers = {"Content-Type": _DYNAMODB, "x-amzn-RequestId": "1", "Content-Length": "100"}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        await answer.write(b"{")
        if stalls:
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.close()
        return answer

    return fault


class CredentialProgram:
    """A `credential_process` whose output a test can change. It runs for each call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = folder / "output"
        config = folder / "config"
        config.write_text(f"[default]\ncredential_process = cat {self._output}\n")
        self.settings = {
            "AWS_CONFIG_FILE": str(config),
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
        }
        self.work()

    def work(self, valid: timedelta = timedelta(minutes=8)) -> None:
        """Let it print credentials.

        Those that expire within ten minutes are renewed with each call.
        """
        self._write(_credentials(valid))

    def write(self, output: bytes) -> None:
        """Let it print something else."""
        self._write(output)

    def hang(self) -> None:
        """Let it print nothing and not end."""
        fresh = self._folder / "pipe"
        os.mkfifo(fresh)
        fresh.replace(self._output)

    def answer(self) -> None:
        """Let the run that hangs print credentials."""
        self._output.write_bytes(_credentials(timedelta(hours=1)))

    def _write(self, output: bytes) -> None:
        fresh = self._folder / "fresh"
        fresh.write_bytes(output)
        fresh.replace(self._output)


def _credentials(valid: timedelta) -> bytes:
    return _json(
        {
            "Version": 1,
            "AccessKeyId": "dummy",
            "SecretAccessKey": "dummy",
            "SessionToken": "dummy",
            "Expiration": (datetime.now(UTC) + valid).isoformat(),
        }
    )


WRONG_OUTPUTS: Final[dict[str, bytes]] = {
    "no JSON": b"Session expired. Run `login`.\n",
    "nothing": b"",
    "null": b"null",
    "a list": b"[1]",
    "no UTF-8": b"\xff\xfe",
    "another version": b'{"Version": 2}',
    "no key": b'{"Version": 1}',
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialProgram:
    """Yield a credential program, which the clients of this test use."""
    program = CredentialProgram(tmp_path)
    for name, value in program.settings.items():
        monkeypatch.setenv(name, value)
    return program
