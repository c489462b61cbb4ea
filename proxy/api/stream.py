"""Server-sent events: a whole answer, told the way its route tells it.

The proxy holds the answer back until it is whole (a draft must be scored before it may be shown),
so the chunks come close together. Until then comments keep the connection alive, which fixes the
status at 200: an error after that is an error event. It must never leave an answer half told
without an error event or a cut connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from proxy.api.reply import fault_body
from proxy.routes.sse import event
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
    """End a task and wait until it has cleaned up; its fault, if any, is of no use to anyone."""
    answer.cancel()
    await asyncio.wait({answer})
    if not answer.cancelled():
        answer.exception()


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
    ) -> None:
        super().__init__(None, 200, headers)
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
            await self._tell(gone, send)
        finally:
            gone.cancel()
            await end(self._answer)

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
        yield b": decision " + response.decision_id.encode() + b"\n\n"
        if response.http_status != 200:
            yield event(response.body)
            return
        yield from self._tell_answer(response.body)
