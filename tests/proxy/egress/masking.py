"""What the tests of masking share: a detector for given words under the real inspection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from proxy.egress.mask import Masked, mask
from proxy.egress.restore import restored_in_chunks
from proxy.inspection.entities import category_of
from proxy.inspection.inline import inspect_with
from proxy.types import Finding, Inspection, JSONObject, Mask, MaskWith, Segment

PEOPLE = {"Jane Doe": "PERSON", "Ann": "PERSON", "jane.doe@mail.example": "EMAIL_ADDRESS"}


class Words:
    """Finds given words wherever they stand, in every view that the inspection makes."""

    name = "words"
    version = "1"

    def __init__(self, entities: Mapping[str, str]) -> None:
        self._entities = entities

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        return tuple(
            Finding(entity, category_of(entity), s.index, *match.span(), 0.9, self.name)
            for s in segments
            for word, entity in self._entities.items()
            for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", s.text or "")
        )


def inspect(body: JSONObject, entities: Mapping[str, str] = PEOPLE) -> Inspection:
    return inspect_with([Words(entities)], ("en",), body)


def masked(
    body: JSONObject,
    entities: Mapping[str, str] = PEOPLE,
    one_way: tuple[str, ...] = (),
    *,
    by: MaskWith = MaskWith.PLACEHOLDER,
    route: str = "chat.completions",
) -> Masked | None:
    """``body`` with all findings masked ``by`` something; those of ``one_way`` for good."""
    inspection = inspect(body, entities)
    ways = {True: MaskWith.HASH, False: by}
    masks = [Mask(f, ways[f.entity in one_way]) for f in inspection.findings]
    return mask(body, inspection, masks, route)


def content(body: JSONObject, message: int = 0) -> Any:
    """The content of a message."""
    return body["messages"][message]["content"]  # type: ignore[index,call-overload]


def back(done: Masked, text: str) -> str:
    """``text`` with the values put back."""
    return restored_in_chunks(done.vault, [text])
