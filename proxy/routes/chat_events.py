"""A whole chat completion, told as the chunks of a stream; nothing of a message is lost.

Source: platform.openai.com/docs/api-reference/chat-streaming.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.routes.sse import DONE, event
from proxy.types import JSONObject

#: About four words a chunk; a run without spaces is cut.
_PIECE: Final = re.compile(r"(?:\s*\S{1,48}){1,4}\s*|\s+")

Chunk = dict[str, Any]


def events(body: JSONObject, request_body: JSONObject) -> Iterator[bytes]:
    """The answer ``body`` as server-sent events, ending in ``[DONE]``."""
    usage = wants_usage(request_body)
    for chunk in chunks(body, logprobs=request_body.get("logprobs") is True, usage=usage):
        yield event(chunk)
    yield DONE


def wants_usage(request_body: JSONObject) -> bool:
    """Whether the client of a stream wants to know what it took."""
    options = request_body.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


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
    for piece, shown in pieces(content, tokens):
        yield told({"content": piece}, shown)
    for piece, shown in pieces(refusal, refused):
        yield told({"refusal": piece}, shown, kind="refusal")
    for delta in _call_deltas(message):
        yield told(delta)
    yield told({}, finish=choice.get("finish_reason"))


def _tokens(choice: Any, kind: str) -> list[Any]:
    scores = choice.get("logprobs")
    found = scores.get(kind) if isinstance(scores, Mapping) else None
    tokens = list(found) if isinstance(found, list | tuple) else []
    readable = all(isinstance(one, Mapping) and isinstance(one.get("token"), str) for one in tokens)
    return tokens if readable else []


def pieces(text: Any, tokens: list[Any]) -> Iterator[tuple[str, list[Any] | None]]:
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
        for piece, _ in pieces(arguments, []):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping):
        yield {"function_call": {**legacy, "arguments": ""}}
        for piece, _ in pieces(legacy.get("arguments"), []):
            yield {"function_call": {"arguments": piece}}
