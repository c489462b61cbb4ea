"""The bytes that leave: rebuilt from what was inspected, each string in them cleared.

A string is cleared when this very request's inspection read it, or when it is on the short
structural list that the inspection uses too. The check runs over the finished bytes, so that no
step before it has to be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from proxy.canonical import canonical_bytes
from proxy.errors import EgressDenied
from proxy.inspection.structural import is_structural, is_structural_number, number_text
from proxy.types import JSON, Inspection, JSONObject

#: What the cloud does not need for an answer does not leave: who asked, bookkeeping, and storage at
#: the provider. ``stream`` goes too: the proxy streams to the client itself.
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


def build_body(body: JSONObject, model: str, inspection: Inspection) -> bytes:
    """Canonical bytes for the destination's ``model``.

    Args:
        body: the client's request.
        model: the model to ask for; from policy, never from the client.
        inspection: the inspection of this very ``body``.

    Raises:
        EgressDenied: a string or long number of the result was not inspected.
    """
    kept = {key: value for key, value in body.items() if key not in DROPPED}
    data = canonical_bytes({**kept, "model": model})
    if count_uncleared(data, model, inspection):
        raise EgressDenied("the outgoing body holds text that was not inspected")
    return data


def count_uncleared(data: bytes, model: str, inspection: Inspection) -> int:
    """How many strings and long numbers of ``data`` nobody inspected."""
    unscannable = {entry.segment for entry in inspection.unscannable}
    cleared = {
        segment.text
        for segment in inspection.segments
        if segment.text is not None and segment.index not in unscannable
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
