"""A whole response, told as the events of a stream, in OpenAI's order.

Source: platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.routes.chat_events import pieces
from proxy.routes.sse import event
from proxy.types import JSONObject

Event = dict[str, Any]


def events(body: JSONObject, _: JSONObject) -> Iterator[bytes]:
    """The answer as server-sent events, numbered from 0; the last one tells the whole."""
    for number, told in enumerate(_events(body)):
        name = f"event: {told['type']}\n".encode()
        yield name + event({**told, "sequence_number": number})


def _events(body: JSONObject) -> Iterator[Event]:
    status = str(body.get("status"))
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    begun["incomplete_details"] = None
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    output = body.get("output")
    for index, item in enumerate(output if isinstance(output, list) else ()):
        if isinstance(item, dict):
            yield from _item(item, index)
    yield {"type": f"response.{status}", "response": dict(body)}


def _item(item: Mapping[str, Any], index: int) -> Iterator[Event]:
    at = {"item_id": item.get("id"), "output_index": index}
    begun = {**item, "status": "in_progress"}
    if item.get("type") == "message":
        begun["content"] = []
    if item.get("type") == "function_call":
        begun["arguments"] = ""
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    if item.get("type") == "message":
        for place, part in enumerate(item.get("content") or ()):
            yield from _part(part, {**at, "content_index": place})
    if item.get("type") == "function_call":
        kind = "response.function_call_arguments"
        for piece, _ in pieces(item.get("arguments"), []):
            yield {"type": f"{kind}.delta", **at, "delta": piece}
        done = {"name": item.get("name"), "arguments": item.get("arguments")}
        yield {"type": f"{kind}.done", **at, **done}
    yield {"type": "response.output_item.done", "output_index": index, "item": dict(item)}


def _part(part: Mapping[str, Any], at: Event) -> Iterator[Event]:
    """A text or a refusal in pieces; log-probabilities go with the tokens they belong to."""
    is_text = part.get("type") == "output_text"
    field = "text" if is_text else "refusal"
    kind = "response.output_text" if is_text else "response.refusal"
    scores = list(part.get("logprobs") or ()) if is_text else []
    begun = {**part, field: "", **({"logprobs": []} if is_text else {})}
    yield {"type": "response.content_part.added", **at, "part": begun}
    for piece, shown in pieces(part.get(field), scores):
        told = {"logprobs": shown or []} if is_text else {}
        yield {"type": f"{kind}.delta", **at, "delta": piece, **told}
    told = {"logprobs": scores} if is_text else {}
    yield {"type": f"{kind}.done", **at, field: part.get(field), **told}
    yield {"type": "response.content_part.done", **at, "part": dict(part)}
