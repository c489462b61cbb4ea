"""The bytes that leave: rebuilt from what was inspected, each string in them cleared.

A string is cleared when this very request's inspection read it, as text or as the file that it
encodes, or when it is on the short structural list that the inspection uses too. The check runs
over the finished bytes, so that no step before it has to be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from proxy.canonical import canonical_bytes
from proxy.errors import EgressDenied
from proxy.inspection.structural import is_structural, is_structural_number, number_text
from proxy.types import JSON, Destination, Inspection, JSONObject

#: What the cloud does not need for an answer does not leave: who asked, bookkeeping, and storage at
#: the provider. ``stream`` goes too: how the answer comes is the proxy's to say (`live_fields`).
DROPPED: Final = frozenset(
    {
        "stream",
        "stream_options",
        "store",
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
    }
)

#: Nor does what has a gateway choose another model, recipient or address than policy names.
#: Source: the request parameters of OpenRouter and LiteLLM that go beyond OpenAI's.
CHOOSING: Final = frozenset(
    "models provider route plugins fallbacks context_window_fallbacks api_base base_url api_key "
    "api_version custom_llm_provider extra_headers extra_body extra_query".split()
)


def outgoing(body: JSONObject, model: str) -> JSONObject:
    """What of a client's ``body`` goes to a destination's ``model``."""
    kept = {key: value for key, value in body.items() if key not in DROPPED | CHOOSING}
    return {**kept, "model": model}


def live_fields(body: JSONObject, destination: Destination) -> dict[str, JSON]:
    """What asks ``destination`` for the answer to a client's ``body`` while it is made.

    Its tokens are to be counted, where policy does not say that it cannot.
    """
    if not destination.stream_usage:
        return {"stream": True}
    options = body.get("stream_options")
    hides = options.get("include_obfuscation") if isinstance(options, Mapping) else None
    asked: JSONObject = {"include_obfuscation": hides} if isinstance(hides, bool) else {}
    return {"stream": True, "stream_options": {"include_usage": True, **asked}}


def model_for(asked: str, destination: Destination) -> str:
    """The model that ``destination`` is asked for: the client's choice, if it has it."""
    return asked if asked in destination.models else destination.models[0]


def build_body(
    body: JSONObject, model: str, inspection: Inspection, forced: JSONObject | None = None
) -> bytes:
    """Canonical bytes for the destination's ``model``.

    Args:
        body: the client's request, or what masking made of it.
        model: the model to ask for; from policy, never from the client.
        inspection: the inspection of this very ``body``.
        forced: what its route, a budget, or the way the answer comes says in any case.

    Raises:
        EgressDenied: a string or long number of the result was not inspected.
    """
    data = canonical_bytes({**outgoing(body, model), **(forced or {})})
    if count_uncleared(data, model, inspection):
        raise EgressDenied("the outgoing body holds text that was not inspected")
    return data


def count_uncleared(data: bytes, model: str, inspection: Inspection) -> int:
    """How many strings and long numbers of ``data`` nobody inspected."""
    unscannable = {entry.segment for entry in inspection.unscannable}
    cleared = {
        segment.source if segment.text is None else segment.text
        for segment in inspection.segments
        if segment.index not in unscannable
    }
    return sum(
        1
        for text in _texts(json.loads(data))
        if text != model and not is_structural(text) and text not in cleared
    )


def num_cleared(data: bytes) -> int:
    """How many strings and long numbers ``data`` holds, for the record."""
    return sum(1 for _ in _texts(json.loads(data)))


def _texts(value: JSON) -> Iterator[str]:
    match value:
        case str():
            yield value
        case bool() | None:
            return
        case int() | float():
            if not is_structural_number(value):
                yield number_text(value)
        case dict():
            for key, member in value.items():
                yield key
                yield from _texts(member)
        case list():
            for member in value:
                yield from _texts(member)
