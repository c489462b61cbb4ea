"""POST /v1/chat/completions: read, ask the pipeline, tell the answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import Receive

from proxy.api.gate import Ticket
from proxy.api.headers import answer_headers
from proxy.api.reply import json_reply
from proxy.api.stream import KEEP_ALIVE_S, EventStream, end, until_gone
from proxy.api.wire import parse_chat, read_json
from proxy.errors import ProxyError
from proxy.settings import Settings
from proxy.types import Request, Response

#: nginx's status for a client that left; nobody receives it, the log shows it.
CLIENT_GONE: Final = 499


class Answerer(Protocol):
    """Answers a request; `proxy.pipeline.Pipeline` is the real one."""

    async def answer(self, request: Request) -> Response:
        """Answer ``request``.

        Raises:
            ProxyError, AuditError: what the client gets as an error.
        """
        ...


class AnswerTimeout(ProxyError):
    """The answer was not there within `request_timeout_s`."""

    code = "request_timeout"
    http_status = 504


class ChatCompletions:
    """The chat route."""

    def __init__(
        self, answerer: Answerer, settings: Settings, *, keep_alive_s: float = KEEP_ALIVE_S
    ) -> None:
        self._answerer = answerer
        self._settings = settings
        self._keep_alive_s = keep_alive_s

    async def __call__(self, http: HttpRequest) -> HttpResponse:
        """Answer one request.

        Raises:
            ProxyError, AuditError: mapped by the handlers of `proxy.api.app`.
        """
        request, expose_route = await self._read(http)
        answer = asyncio.create_task(self._answer(request))
        try:
            is_there = await _wait(
                answer, http.receive, self._keep_alive_s if request.stream else None
            )
        except BaseException:
            await end(answer)
            raise
        if is_there is None:
            await end(answer)
            return HttpResponse(status_code=CLIENT_GONE)
        if not is_there:
            return EventStream(answer, request.body, keep_alive_s=self._keep_alive_s)
        response = answer.result()
        headers = answer_headers(response, expose_route=expose_route)
        if request.stream and response.http_status == 200:
            return EventStream(answer, request.body, headers=headers)
        return json_reply(response.http_status, response.body, headers)

    async def _read(self, http: HttpRequest) -> tuple[Request, bool]:
        ticket: Ticket = http.scope["state"]["ticket"]
        if ticket.key is None:
            raise ProxyError("The gate let a request in without a caller.")
        body = read_json(await http.body(), max_depth=self._settings.max_json_depth)
        request = parse_chat(
            body, ticket.key.caller, request_id=ticket.request_id, received_at=datetime.now(UTC)
        )
        return request, ticket.key.expose_route or self._settings.expose_route_headers

    async def _answer(self, request: Request) -> Response:
        limit = asyncio.timeout(self._settings.request_timeout_s)
        try:
            async with limit:
                return await self._answerer.answer(request)
        except TimeoutError:
            if not limit.expired():
                raise
        raise AnswerTimeout("The answer took too long.")


async def _wait(
    answer: asyncio.Task[Response], receive: Receive, timeout_s: float | None
) -> bool | None:
    """Whether the answer is there in time; None when the client has left."""
    gone = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait({answer, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return True
        return None if gone.done() else False
    finally:
        gone.cancel()
