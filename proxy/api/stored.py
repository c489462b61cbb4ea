"""The routes over stored responses: show, delete, cancel, list the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from proxy.api.conversations import Conversations
from proxy.api.gate import caller_of
from proxy.api.paging import page_of, query_of
from proxy.api.reply import json_reply
from proxy.errors import RequestError

#: OpenAI's own limits; platform.openai.com/docs/api-reference/responses/input-items.
MAX_PAGE: Final = 100
_DEFAULT_PAGE: Final = 20


class StoredResponses:
    """The four routes."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def show(self, http: HttpRequest) -> HttpResponse:
        """One response.

        Raises:
            RequestError: ``response_not_found``, or it was asked for as a stream.
        """
        if query_of(http).get("stream") not in (None, "false"):
            raise RequestError(
                "A stored response is not streamed.", code="unsupported_parameter", param="stream"
            )
        kept = await self._conversations.kept(caller_of(http), _id(http))
        return json_reply(200, kept.body)

    async def delete(self, http: HttpRequest) -> HttpResponse:
        """Forget one response."""
        await self._conversations.forget(caller_of(http), _id(http))
        return json_reply(200, {"id": _id(http), "object": "response", "deleted": True})

    async def cancel(self, http: HttpRequest) -> HttpResponse:
        """Refuse: only background responses can be cancelled, and there are none."""
        await self._conversations.kept(caller_of(http), _id(http))
        raise RequestError("Only a background response can be cancelled, and this is none.")

    async def input_items(self, http: HttpRequest) -> HttpResponse:
        """What a response was made from, the newest first unless asked otherwise."""
        items = (await self._conversations.kept(caller_of(http), _id(http))).items
        query, listed = query_of(http), [as_listed(item) for item in items]
        return json_reply(200, page_of(listed, query, default=_DEFAULT_PAGE, most=MAX_PAGE))


def _id(http: HttpRequest) -> str:
    return str(http.path_params["id"])


def as_listed(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the input as OpenAI lists it: of a full form, however short a client put it."""
    listed = {"type": "message", "status": "completed", **item}
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    if isinstance(content, list):
        listed["content"] = [_part(part) for part in content]
    return listed


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = (
        {"annotations": [], "logprobs": []} if part.get("type") == "output_text" else {}
    )
    return {**said, **part}
