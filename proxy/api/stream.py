"""Server-sent events: a whole answer, told as the chunks of a chat completion.

The proxy holds the answer back until it is whole (a draft must be scored before it may be shown),
so the chunks come close together. Until then comments keep the connection alive, which fixes the
status at 200: an error after that is an error event. It must never leave an answer half told
without an error event or a cut connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from proxy.api.reply import fault_body
from proxy.canonical import canonical_bytes
from proxy.types import JSONObject, Response

log = structlog.get_logger()

KEEP_ALIVE_S: Final = 5.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"
#: About four words a chunk; a run without spaces is cut.
_PIECE: Final = re.compile(r"(?:\s*\S{1,48}){1,4}\s*|\s+")
#: Line ends of Unicode (`str.splitlines`) that JSON leaves as they are.
_LINE_ENDS: Final = "\x85\u2028\u2029"
MAX_BATCH_BYTES: Final = 16 * 1024

Chunk = dict[str, Any]


def events(body: JSONObject, request_body: JSONObject) -> Iterator[bytes]:
    """The answer ``body`` as server-sent events, ending in ``[DONE]``."""
    options = request_body.get("stream_options")
    usage = isinstance(options, Mapping) and options.get("include_usage") is True
    for chunk in chunks(body, logprobs=request_body.get("logprobs") is True, usage=usage):
        yield event(chunk)
    yield DONE


def event(body: JSONObject) -> bytes:
    """One event. What some readers take for a line's end (not SSE's own rule) is escaped."""
    data = canonical_bytes(body)
    for mark in _LINE_ENDS:
        data = data.replace(mark.encode(), f"\\u{ord(mark):04x}".encode())
    return b"data: " + data + b"\n\n"


def chunks(body: JSONObject, *, logprobs: bool, usage: bool) -> Iterator[Chunk]:
    """The answer as ``chat.completion.chunk`` objects; nothing of a message is lost.

    Source: platform.openai.com/docs/api-reference/chat-streaming.
    """
    frame: Chunk = {
        name: value for name, value in body.items() if name not in ("choices", "usage", "object")
    }
    frame["object"] = "chat.completion.chunk"
    if usage:
        frame["usage"] = None
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list | tuple) else ():
        for told in _choice_chunks(choice, logprobs=logprobs):
            yield {**frame, "choices": [told]}
    if usage:
        yield {**frame, "choices": [], "usage": body.get("usage")}


def _choice_chunks(choice: Any, *, logprobs: bool) -> Iterator[Chunk]:
    message: Mapping[str, Any] = choice.get("message") or {}
    index = choice.get("index", 0)
    tokens = _tokens(choice, "content") if logprobs else []
    refused = _tokens(choice, "refusal") if logprobs else []

    def told(
        delta: Chunk,
        shown: list[Any] | None = None,
        finish: Any = None,
        *,
        kind: str = "content",
    ) -> Chunk:
        scores = {"content": None, "refusal": None, kind: shown} if shown else None
        return {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}

    spread = ("content", "refusal", "tool_calls", "function_call", "role")
    rest = {name: value for name, value in message.items() if name not in spread}
    content, refusal = message.get("content"), message.get("refusal")
    opening = "" if isinstance(content, str) else None
    yield told({"role": message.get("role", "assistant"), "content": opening, **rest})
    for piece, shown in _pieces(content, tokens):
        yield told({"content": piece}, shown)
    for piece, shown in _pieces(refusal, refused):
        yield told({"refusal": piece}, shown, kind="refusal")
    for delta in _call_deltas(message):
        yield told(delta)
    yield told({}, finish=choice.get("finish_reason"))


def _tokens(choice: Any, kind: str) -> list[Any]:
    found = (choice.get("logprobs") or {}).get(kind)
    return list(found) if isinstance(found, list | tuple) else []


def _pieces(text: Any, tokens: list[Any]) -> Iterator[tuple[str, list[Any] | None]]:
    """``text`` in pieces, token by token where the tokens spell it; scores go with their piece."""
    if not isinstance(text, str) or not text:
        return
    if tokens and "".join(str(token.get("token", "")) for token in tokens) == text:
        for start in range(0, len(tokens), 4):
            some = tokens[start : start + 4]
            yield "".join(token["token"] for token in some), some
        return
    for number, match in enumerate(_PIECE.finditer(text)):
        yield match.group(), tokens if number == 0 and tokens else None


def _call_deltas(message: Mapping[str, Any]) -> Iterator[Chunk]:
    """Each tool call: first its id and name, then its arguments in pieces."""
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if not isinstance(function, Mapping):
            yield {"tool_calls": [{"index": index, **call}]}
            continue
        arguments = function.get("arguments")
        opening = {**call, "function": {**function, "arguments": ""}}
        yield {"tool_calls": [{"index": index, **opening}]}
        for piece, _ in _pieces(arguments, []):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping):
        yield {"function_call": {**legacy, "arguments": ""}}
        for piece, _ in _pieces(legacy.get("arguments"), []):
            yield {"function_call": {"arguments": piece}}


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
        request_body: JSONObject,
        *,
        headers: Mapping[str, str] | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(None, 200, headers)
        del self.headers["content-length"]
        self._answer = answer
        self._request_body = request_body
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
        yield from events(response.body, self._request_body)
