"""The management API, to which workers post: as API Gateway's, but nothing has to be signed."""

from __future__ import annotations

import json
import random
from datetime import datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from local_gateway.sessions import Session, Sessions
from streamer_store.clock import new_id
from streamer_worker.push.messages import MAX_BYTES

_NORMAL_CLOSURE: Final = 1000


class Management:
    """Answers `POST`, `GET` and `DELETE` of `/@connections/{id}`, with or without a stage before.

    Errors have the status and the names of API Gateway's: GoneException (410),
    PayloadTooLargeException (413) and BadRequestException (400, the message is not UTF-8).
    """

    def __init__(self, *, sessions: Sessions, rng: random.Random) -> None:
        self._sessions = sessions
        self._rng = rng

    def add_routes(self, app: web.Application) -> None:
        """Add the routes. The ids in their paths are percent-encoded, as AWS's SDKs do."""
        for path in ("/@connections/{id}", "/{stage}/@connections/{id}"):
            app.router.add_post(path, self._post)
            app.router.add_get(path, self._get, allow_head=False)
            app.router.add_delete(path, self._delete)

    async def _post(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return self._error(HTTPStatus.GONE, "GoneException")
        try:
            text = (await request.clone(client_max_size=MAX_BYTES).read()).decode()
        except web.HTTPRequestEntityTooLarge:
            return self._error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "PayloadTooLargeException")
        except UnicodeDecodeError:
            return self._error(HTTPStatus.BAD_REQUEST, "BadRequestException")
        if not session.offer(text):
            return self._error(HTTPStatus.GONE, "GoneException")
        return self._answer(HTTPStatus.OK)

    async def _get(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return self._error(HTTPStatus.GONE, "GoneException")
        return self._answer(
            HTTPStatus.OK,
            {
                "connectedAt": _iso(session.connected_at),
                "identity": {"sourceIp": session.source_ip, "userAgent": session.user_agent},
                "lastActiveAt": _iso(session.last_active_at),
            },
        )

    async def _delete(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return self._error(HTTPStatus.GONE, "GoneException")
        session.close(_NORMAL_CLOSURE, "deleted")
        return self._answer(HTTPStatus.NO_CONTENT)

    def _session(self, request: web.Request) -> Session | None:
        return self._sessions.get(request.match_info["id"])

    def _error(self, status: HTTPStatus, kind: str) -> web.Response:
        answer = self._answer(status, {"message": kind})
        answer.headers["x-amzn-ErrorType"] = kind
        return answer

    def _answer(self, status: HTTPStatus, body: object = None) -> web.Response:
        return web.Response(
            status=status,
            text=None if body is None else json.dumps(body),
            content_type="application/json",
            headers={"x-amzn-RequestId": new_id(self._rng)},
        )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
