"""A response at home: asked of the local tier as a chat completion, and told as a response.

Pure. Every part that the local tier is not told (reasoning items of another model) was inspected
with the rest.

Source: platform.openai.com/docs/guides/migrate-to-responses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.ids import new_id
from proxy.types import JSON, JSONObject

LOGPROBS: Final = "message.output_text.logprobs"

#: Parameters with the same meaning in a chat completion, by their name there.
_SAME: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_completion_tokens",
}

#: What a response repeats of its request, with the value for one that did not say.
_REPEATED: Final[Mapping[str, JSON]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def to_chat(body: JSONObject) -> dict[str, Any]:
    """The chat completion that asks the same."""
    asked: dict[str, Any] = {"messages": list(_messages(body))}
    for name, there in _SAME.items():
        if body.get(name) is not None:
            asked[there] = body[name]
    if tools := [_tool(tool) for tool in _objects(body.get("tools"))]:
        asked["tools"] = tools
        if body.get("parallel_tool_calls") is not None:
            asked["parallel_tool_calls"] = body["parallel_tool_calls"]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        function = {"name": choice.get("name")}
        asked["tool_choice"] = {"type": "function", "function": function}
    elif choice is not None and tools:
        asked["tool_choice"] = choice
    match body.get("reasoning"):
        case {"effort": str(effort)}:
            asked["reasoning_effort"] = effort
    text = body.get("text")
    if isinstance(text, dict):
        asked.update(_text_options(text))
    if wants_logprobs(body):
        asked["top_logprobs"] = body.get("top_logprobs") or 0
    return asked


def wants_logprobs(body: JSONObject) -> bool:
    """Whether the client asked for log-probabilities."""
    include = body.get("include")
    return isinstance(include, list) and LOGPROBS in include


def from_chat(told: JSONObject, body: JSONObject) -> dict[str, Any]:
    """The response that says what the chat completion ``told`` says."""
    choices = _objects(told.get("choices"))
    choice: Mapping[str, Any] = choices[0] if choices else {}
    reason = _INCOMPLETE.get(str(choice.get("finish_reason")))
    status = "incomplete" if reason else "completed"
    answer = {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": told.get("model"),
        "output": list(_output(choice, status, logprobs=wants_logprobs(body))),
        "previous_response_id": None,
        "store": body.get("store") is not False,
        "usage": _usage(told.get("usage")),
    }
    repeated = {
        name: default if body.get(name) is None else body[name]
        for name, default in _REPEATED.items()
    }
    return {**answer, **repeated}


def items_of(given: JSON) -> list[dict[str, Any]]:
    """The input of a request as items; a text is a message of the user."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [dict(item) for item in _objects(given)]


def _messages(body: JSONObject) -> Iterator[dict[str, Any]]:
    if isinstance(instructions := body.get("instructions"), str):
        yield {"role": "system", "content": instructions}
    calls: list[dict[str, Any]] = []
    for item in items_of(body.get("input")):
        if item.get("type") == "function_call":
            calls.append(_call(item))
            continue
        if calls:
            yield {"role": "assistant", "content": None, "tool_calls": calls}
            calls = []
        if item.get("type") == "function_call_output":
            content = _plain(item.get("output"))
            yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
        elif item.get("type", "message") == "message":
            yield _message(item)
    if calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if item.get("role") == "assistant" or isinstance(content, str):
        return {"role": item.get("role"), "content": _plain(content)}
    return {"role": item.get("role"), "content": [_part(part) for part in _objects(content)]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "input_image":
            image = {"url": part.get("image_url"), "detail": part.get("detail") or "auto"}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            kept = {name: value for name, value in part.items() if name != "type"}
            return {"type": "file", "file": kept}
    return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}


def _plain(content: JSON) -> str:
    """The text of a content; a part that is none is told as what it is, so that it is refused."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") or part.get("refusal") for part in _objects(content)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _text_options(text: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if text.get("verbosity") is not None:
        yield "verbosity", text["verbosity"]
    match text.get("format"):
        case {"type": "json_schema", **schema}:
            yield "response_format", {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            yield "response_format", {"type": "json_object"}


def _output(choice: Mapping[str, Any], status: str, *, logprobs: bool) -> Iterator[dict[str, Any]]:
    message: Mapping[str, Any] = choice.get("message") or {}
    parts: list[dict[str, Any]] = []
    if isinstance(text := message.get("content"), str) and text:
        told_scores = choice.get("logprobs") if logprobs else None
        scores = _objects(told_scores.get("content")) if isinstance(told_scores, dict) else []
        told = {"type": "output_text", "text": text, "annotations": [], "logprobs": scores}
        parts.append(told)
    if isinstance(refusal := message.get("refusal"), str):
        parts.append({"type": "refusal", "refusal": refusal})
    calls = _objects(message.get("tool_calls"))
    if parts or not calls:
        yield {
            "id": new_id("msg"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": parts,
        }
    for call in calls:
        function: Mapping[str, Any] = call.get("function") or {}
        yield {
            "id": new_id("fc"),
            "type": "function_call",
            "status": status,
            "call_id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments") or "",
        }


def _usage(usage: JSON) -> dict[str, Any]:
    counts: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    taken, given = (_number(counts.get(f"{kind}_tokens")) for kind in ("prompt", "completion"))
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }


def _number(value: JSON) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _objects(value: JSON) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
