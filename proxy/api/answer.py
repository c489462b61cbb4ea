"""The routes that the pipeline answers: read, ask the pipeline, tell the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import Receive

from proxy.api.gate import Ticket
from proxy.api.headers import answer_headers
from proxy.api.once import Asked, Once, asked_in, packed, unpacked
from proxy.api.reply import json_reply, raw_reply
from proxy.api.stream import KEEP_ALIVE_S, EventStream, end, too_long, until_gone
from proxy.api.wire import parse_request, read_form_body, read_json
from proxy.canonical import canonical_bytes
from proxy.errors import ProxyError
from proxy.routes.route import ApiRoute
from proxy.settings import Settings
from proxy.types import JSONObject, Request, Response

#: nginx's status for a client that left; nobody receives it, the log shows it.
CLIENT_GONE: Final = 499
#: Forms of a route that are read at once; each stands in memory a few times over meanwhile.
MAX_FORMS: Final = 2


class Answerer(Protocol):
    """Answers a request; `proxy.pipeline.Pipeline` is the real one."""

    async def answer(self, request: Request) -> Response:
        """Answer ``request``.

        Raises:
            ProxyError, AuditError: what the client gets as an error.
        """
        ...


class AnswerRoute:
    """One of the routes of `proxy.routes`, over HTTP."""

    def __init__(
        self,
        route: ApiRoute,
        answerer: Answerer,
        settings: Settings,
        once: Once,
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._route = route
        self._answerer = answerer
        self._settings = settings
        self._once = once
        self._keep_alive_s = keep_alive_s
        self._reading = asyncio.Semaphore(MAX_FORMS)

    async def __call__(self, http: HttpRequest) -> HttpResponse:
        """Answer one request.

        Raises:
            ProxyError, AuditError: mapped by the handlers of `proxy.api.app`.
        """
        request, expose_route = await self._read(http)
        asked = asked_in(http, request.route, lambda: canonical_bytes(request.body))
        # A kept answer must be whole, and so must one that cannot be told in chunks as they come.
        flows = request.stream and asked is None and _can_flow(self._route)
        request = replace(request, live=flows)
        ends_at = asyncio.get_running_loop().time() + self._settings.request_timeout_s
        answer = asyncio.create_task(self._answer(request, asked))
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
            return self._stream(answer, request, ends_at)
        response = answer.result()
        headers = answer_headers(response, expose_route=expose_route)
        if request.stream and response.http_status == 200:
            return self._stream(answer, request, ends_at, headers)
        if response.http_status == 200 and self._route.raw_types:
            raw = await asyncio.to_thread(self._route.raw, request.body, response.body)
            if raw is not None:
                return raw_reply(raw, headers)
        return json_reply(response.http_status, response.body, headers)

    def _stream(
        self,
        answer: asyncio.Task[Response],
        request: Request,
        ends_at: float,
        headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        return EventStream(
            answer,
            self._teller(request),
            headers=headers,
            keep_alive_s=self._keep_alive_s,
            ends_at=ends_at,
        )

    async def _answer(self, request: Request, asked: Asked | None) -> Response:
        """The answer; one that was given before under its key is the same."""
        timeout_s = self._settings.request_timeout_s
        if asked is None:
            return await answer_in_time(self._answerer, request, timeout_s)

        async def work() -> JSONObject:
            kept = replace(request, kept_s=self._once.kept_s)
            return packed(await answer_in_time(self._answerer, kept, timeout_s))

        return unpacked(await self._once.do(asked, work))

    def _teller(self, request: Request) -> Callable[[JSONObject], Iterator[bytes]]:
        """How the answer to ``request`` is told as events."""
        tell = self._route.tell
        if tell is None:
            raise ProxyError("A route that does not stream was asked to.")
        return lambda answer: tell(answer, request.body)

    async def _read(self, http: HttpRequest) -> tuple[Request, bool]:
        ticket: Ticket = http.scope["state"]["ticket"]
        if ticket.key is None:
            raise ProxyError("The gate let a request in without a caller.")
        body = await self._body(http)
        request = parse_request(
            self._route,
            body,
            ticket.key.caller,
            request_id=ticket.request_id,
            received_at=datetime.now(UTC),
        )
        return request, ticket.key.expose_route or self._settings.expose_route_headers

    async def _body(self, http: HttpRequest) -> JSONObject:
        raw, form = await http.body(), self._route.form
        if form is None:
            return read_json(raw, max_depth=self._settings.max_json_depth)
        (kind,) = http.headers.getlist("content-type")
        async with self._reading:
            return await asyncio.to_thread(read_form_body, raw, kind.encode("latin-1"), form)


def _can_flow(route: ApiRoute) -> bool:
    return route.abroad is not None and route.abroad.is_chunk is not None


async def answer_in_time(answerer: Answerer, request: Request, timeout_s: float) -> Response:
    """The answer to ``request``, if it is there in time.

    Raises:
        AnswerTimeout: it was not.
        ProxyError, AuditError: as the answerer raises them.
    """
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await answerer.answer(request)
    except TimeoutError:
        if not limit.expired():
            raise
    raise too_long()


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
