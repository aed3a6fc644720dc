"""The HTTP session of the client: it takes only DynamoDB's answers for answers."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import HTTPClientError

from streamer_store.dynamo.answers import problem_with_response


class UnexpectedAnswerError(HTTPClientError):
    """Something other than DynamoDB answered. botocore tries again, as after a lost connection."""

    fmt = "{error}"


class CheckedSession(AIOHTTPSession):
    async def send(self, request: Any) -> Any:
        """Send the request and return the response. Raises UnexpectedAnswerError."""
        response: Any = await super().send(request)
        body = await response.content
        problem = problem_with_response(response.status_code, response.headers, body)
        if problem is not None:
            raise UnexpectedAnswerError(error=problem)
        return response
