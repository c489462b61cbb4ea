"""Server-sent events: an answer, told the way its route tells it.

A whole answer (a draft must be scored before it may be shown) is told at once; one of the cloud
that flows is told as it comes. Wherever nothing comes, comments keep the connection alive. The
first fixes the status at 200: an error after that is an error event. It must never leave an answer
half told without an error event or a cut connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import structlog
from starlette.responses import Response as HttpResponse
from starlette.types import Message, Receive, Scope, Send

from audit.errors import AuditError
from proxy.api.reply import fault_body
from proxy.errors import ProxyError
from proxy.flowing import LiveAnswer
from proxy.routes.sse import DONE, event
from proxy.types import JSONObject, Response

log = structlog.get_logger()

KEEP_ALIVE_S: Final = 5.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
MAX_BATCH_BYTES: Final = 16 * 1024


async def until_gone(receive: Receive) -> None:
    """Return when the client has left; only to be used once its body is read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def end(answer: asyncio.Task[Response]) -> None:
    """End an answer and wait until it has cleaned up; its fault, if any, is of no use to anyone."""
    answer.cancel()
    try:
        await asyncio.wait({answer})
    finally:
        _close(answer)


def _close(answer: asyncio.Task[Response]) -> None:
    """Close an answer that flows; nobody is there for it any more."""
    if not answer.done() or answer.cancelled() or answer.exception() is not None:
        return
    live = answer.result().live
    if live is not None:
        live.close()


class AnswerTimeout(ProxyError):
    """The answer was not there within `request_timeout_s`."""

    code = "request_timeout"
    http_status = 504


def too_long() -> AnswerTimeout:
    """The fault of an answer that was not there in time."""
    return AnswerTimeout("The answer took too long.")


class EventStream(HttpResponse):
    """An answer that is still being made, or is there, as server-sent events.

    It owns the answer's task: a client that leaves ends it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        answer: asyncio.Task[Response],
        tell: Callable[[JSONObject], Iterator[bytes]],
        *,
        headers: Mapping[str, str] | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
        ends_at: float | None = None,
    ) -> None:
        """``ends_at``: when an answer that flows has taken too long, in the loop's time."""
        super().__init__(None, 200, headers)
        self._ends_at = ends_at
        del self.headers["content-length"]
        self._answer = answer
        self._tell_answer = tell
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the answer."""
        gone = asyncio.ensure_future(until_gone(receive))
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            while not self._answer.done():
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
                await asyncio.wait(
                    {self._answer, gone},
                    timeout=self._keep_alive_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done():
                    return
            live = self._live()
            if live is None:
                await self._tell(gone, send)
            else:
                await self._pass_on(live, gone, send)
        finally:
            gone.cancel()
            await end(self._answer)

    def _live(self) -> LiveAnswer | None:
        return None if self._answer.exception() is not None else self._answer.result().live

    async def _pass_on(self, live: LiveAnswer, gone: asyncio.Future[None], send: Send) -> None:
        """Tell an answer that flows; a client that does not read holds it back, up to its end."""
        loop, chunks = asyncio.get_running_loop(), aiter(live)
        # While nobody reads, sending waits: the end must come from elsewhere.
        ends = None
        if self._ends_at is not None:
            ends = loop.call_at(self._ends_at, partial(live.close, late=True))
        try:
            await send(_piece(_decision(self._answer.result())))
            while (chunk := await self._next(chunks, gone, send)) is not None:
                await send(_piece(event(chunk)))
            last = DONE
        except _Gone:
            return
        except (ProxyError, AuditError) as error:
            fault = too_long() if self._is_late() else error
            live.close(late=isinstance(fault, AnswerTimeout))
            log.warning("stream_failed", error=type(fault).__name__)
            last = event(fault_body(fault)[1])
        finally:
            if ends is not None:
                ends.cancel()
        await send(_piece(last, more=False))

    def _is_late(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._ends_at is not None and now >= self._ends_at

    async def _next(
        self, chunks: AsyncIterator[JSONObject], gone: asyncio.Future[None], send: Send
    ) -> JSONObject | None:
        """The next chunk; None at the end. Comments keep the connection alive meanwhile.

        Raises:
            _Gone: the client has left.
            AnswerTimeout: the answer has taken too long.
        """
        coming = asyncio.ensure_future(anext(chunks, None))
        loop = asyncio.get_running_loop()
        awaited: set[asyncio.Future[Any]] = {coming, gone}
        try:
            while True:
                left_s = self._keep_alive_s
                if self._ends_at is not None:
                    left_s = min(left_s, self._ends_at - loop.time())
                if left_s <= 0:
                    raise too_long()
                await asyncio.wait(awaited, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise _Gone
                if coming.done():
                    return coming.result()
                await send(_piece(KEEP_ALIVE))
        finally:
            coming.cancel()

    async def _tell(self, gone: asyncio.Future[None], send: Send) -> None:
        batch = b""
        for told in self._events():
            batch += told
            if len(batch) >= MAX_BATCH_BYTES:
                await send({"type": "http.response.body", "body": batch, "more_body": True})
                batch = b""
                await asyncio.sleep(0)  # let others run, and the news of a departure in
                if gone.done():
                    return
        await send({"type": "http.response.body", "body": batch, "more_body": False})

    def _events(self) -> Iterator[bytes]:
        fault = self._answer.exception()
        if fault is not None:
            log.warning("stream_failed", error=type(fault).__name__)
            yield event(fault_body(fault)[1])
            return
        response = self._answer.result()
        yield _decision(response)
        if response.http_status != 200:
            yield event(response.body)
            return
        yield from self._tell_answer(response.body)


class _Gone(Exception):
    """The client has left."""


def _piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _decision(response: Response) -> bytes:
    return b": decision " + response.decision_id.encode() + b"\n\n"
