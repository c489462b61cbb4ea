"""Stored responses: kept at home, joined to what follows, and never another key's.

A request with `previous_response_id` becomes the whole conversation before anything looks at it:
inspection, policy and both tiers see every turn, and a pin carries along. The ids that a client
gets are ours; a provider's are not told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

from proxy.api.answer import Answerer
from proxy.canonical import canonical_bytes
from proxy.errors import RequestError
from proxy.ids import new_id
from proxy.objects import Store, opened
from proxy.routes.responses import RESPONSES
from proxy.routes.responses_home import items_of
from proxy.types import Caller, JSONObject, Request, Response

KIND: Final = "response"

#: What a response repeats of its request and a provider was not told.
_BOOKKEEPING: Final = ("metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier")


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored response: as its client got it, its input, and the decision that pinned it."""

    body: dict[str, Any] = field(repr=False)
    items: list[dict[str, Any]] = field(repr=False)
    pinned_by: str | None

    def to_bytes(self) -> bytes:
        """For the store."""
        members = {"body": self.body, "items": self.items, "pinned_by": self.pinned_by}
        return json.dumps(members).encode()


class Conversations:
    """An `Answerer` in front of the pipeline that remembers responses."""

    def __init__(self, answerer: Answerer, store: Store, max_bytes: int) -> None:
        self._answerer = answerer
        self._store = store
        self._max_bytes = max_bytes

    async def answer(self, request: Request) -> Response:
        """Answer ``request`` as part of its conversation; see `Answerer`.

        Raises:
            RequestError: the response it goes on from is not there, or the whole is too long.
        """
        if request.route != RESPONSES.name:
            return await self._answerer.answer(request)
        previous = request.body.get("previous_response_id")
        before = None
        if previous is not None:
            before = await self.kept(request.caller, str(previous), "previous_response_id")
        whole = self._joined(request, before)
        keeps = request.body.get("store") is not False
        if keeps:
            kept_s = max(request.kept_s, opened(self._store).ttl_s)
            whole = replace(whole, kept_s=kept_s)
        response = await self._answerer.answer(whole)
        if response.http_status != 200:
            return response
        told = _as_ours(response.body, request.body)
        if keeps:
            pinned_by = response.decision_id if response.pinned else None
            items = [{**item, "id": new_id("item")} for item in items_of(whole.body["input"])]
            kept = Kept(told, items, pinned_by)
            await opened(self._store).put(
                KIND, request.caller.key_id, str(told["id"]), kept.to_bytes()
            )
        return replace(response, body=told)

    async def kept(self, caller: Caller, id_: str, param: str = "response_id") -> Kept:
        """The stored response ``id_`` of ``caller``, which parameter ``param`` names.

        Raises:
            RequestError: ``response_not_found`` (404), for another key's as for an unknown one.
        """
        data = await opened(self._store).get(KIND, caller.key_id, id_)
        if data is None:
            raise not_found(param)
        members = json.loads(data)
        return Kept(members["body"], members["items"], members["pinned_by"])

    async def forget(self, caller: Caller, id_: str) -> None:
        """Delete a stored response.

        Raises:
            RequestError: ``response_not_found`` (404).
        """
        if not await opened(self._store).delete(KIND, caller.key_id, id_):
            raise not_found()

    def _joined(self, request: Request, before: Kept | None) -> Request:
        """The request with every turn in it; nobody behind this needs a store to read it."""
        if before is None:
            return request
        body = {k: v for k, v in request.body.items() if k != "previous_response_id"}
        body["input"] = [
            *({k: v for k, v in item.items() if k != "id"} for item in before.items),
            *map(_as_input, before.body["output"]),
            *items_of(request.body["input"]),
        ]
        if len(canonical_bytes(body)) > self._max_bytes:
            raise RequestError(
                "The conversation is too long to go on.",
                code="context_length_exceeded",
                param="previous_response_id",
            )
        return replace(request, body=body, derived_from=before.pinned_by)


def not_found(param: str = "response_id") -> RequestError:
    """The refusal of an id that this caller has no response for; it echoes no id."""
    return RequestError(
        "No such response.", code="response_not_found", http_status=404, param=param
    )


def _as_ours(body: JSONObject, asked: JSONObject) -> dict[str, Any]:
    """The response as its client gets it, whoever made it: our id, the client's bookkeeping."""
    named = {name: asked[name] for name in _BOOKKEEPING if asked.get(name) is not None}
    return {
        **body,
        **named,
        "id": new_id("resp"),
        "previous_response_id": asked.get("previous_response_id"),
        "store": asked.get("store") is not False,
    }


def _as_input(item: dict[str, Any]) -> dict[str, Any]:
    """An item of an answer as part of the next request: without ids, scores or status."""
    kept = {name: value for name, value in item.items() if name not in ("id", "status")}
    if isinstance(content := kept.get("content"), list):
        dropped = ("logprobs", "annotations")
        kept["content"] = [
            {name: value for name, value in part.items() if name not in dropped}
            if isinstance(part, dict)
            else part
            for part in content
        ]
    return kept
