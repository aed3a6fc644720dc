"""The HTTP session of the client: it takes only DynamoDB's answers for answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from streamer_store.dynamo.answers import problem_with_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# BatchGetItem returns 16 MB at most (API Reference). JSON writes one byte as up to six.
_LARGEST_BODY: Final = 128 * 1024 * 1024


class UnexpectedAnswerError(HTTPClientError):
    """Something other than DynamoDB answered. botocore tries again, as after a lost connection."""

    fmt = "{error}"


class CheckedSession(AIOHTTPSession):
    async def send(self, request: Any) -> Any:
        """Send the request and return the response. Raises HTTPClientError."""
        request.stream_output = True  # the body is read here, where it has a limit
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
        vars(response)["_content"] = body  # where botocore itself keeps what it has read
        return response


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    found = bytearray()
    async for chunk in chunks:
        found += chunk
        if len(found) > _LARGEST_BODY:
            raise UnexpectedAnswerError(error=f"an answer of more than {_LARGEST_BODY} bytes")
    return bytes(found)
