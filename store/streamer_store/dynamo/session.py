"""The HTTP session of the client: it accepts only answers from DynamoDB."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from streamer_store.dynamo.answers import JsonBody, problem_with_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# BatchGetItem returns at most 16 MB (API Reference). JSON needs up to six bytes for one.
_MAX_BODY_BYTES: Final = 128 * 1024 * 1024
# aiohttp warns of longer bodies unless they are files, which it sends in pieces.
_MAX_RAW_BYTES: Final = 1024 * 1024


class UnexpectedAnswerError(HTTPClientError):
    """Something other than DynamoDB answered. botocore retries, as after a lost connection."""

    fmt = "{error}"


class CheckedSession(AIOHTTPSession):
    """An HTTP session that raises UnexpectedAnswerError for answers not from DynamoDB."""

    async def send(self, request: Any) -> Any:
        """Send the request and return the response. Raises HTTPClientError."""
        request.stream_output = True  # so that the body is read here, up to a limit
        if isinstance(request.body, bytes) and len(request.body) > _MAX_RAW_BYTES:
            request.body = io.BytesIO(request.body)
        response: Any = await super().send(request)
        body = None
        try:
            body = await _read(response.raw.content.iter_any())
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except aiohttp.ClientError as error:
            raise ConnectionClosedError(
                error=error, request=request, endpoint_url=request.url
            ) from error
        finally:
            if body is None:
                response.raw.close()
        problem = problem_with_response(response.status_code, response.headers, body)
        if problem is not None:
            raise UnexpectedAnswerError(error=problem)
        vars(response)["_content"] = body  # where botocore caches the body
        return response


async def _read(chunks: AsyncIterator[bytes]) -> JsonBody:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise UnexpectedAnswerError(error=f"an answer of more than {_MAX_BODY_BYTES} bytes")
    return JsonBody(body)
