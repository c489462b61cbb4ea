"""Masks a body: what the decision wants hidden is replaced in every string that leaves.

Findings give the values; every place where a value stands is replaced, not only the one where it
was found. A value where nothing can be replaced safely (a key, a number, the name of a tool, a
decoded or split text) keeps the request at home. What comes out is inspected again before it may
leave, so that a mistake here pins and never leaks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from proxy.canonical import parse_object
from proxy.egress.placeholders import Vault
from proxy.egress.places import Where, is_free
from proxy.egress.values import Unmaskable, Values
from proxy.errors import RequestError
from proxy.inspection.paths import child_path
from proxy.inspection.structural import is_structural, number_text
from proxy.inspection.surface import MAX_EMBEDDED_DEPTH
from proxy.types import JSON, Inspection, JSONObject, Mask


@dataclass(frozen=True, slots=True)
class Masked:
    """A body with placeholders and pseudonyms, ready to be inspected again.

    ``counts`` says how many findings were replaced, by entity, sorted: all of them, if the decision
    counts as many. ``inspection`` is that of ``body``, once it was made: without one it cannot
    leave.
    """

    body: JSONObject = field(repr=False)
    vault: Vault = field(repr=False)
    counts: tuple[tuple[str, int], ...]
    inspection: Inspection | None = None

    def without_placeholders(self, inspection: Inspection) -> Inspection:
        """``inspection`` of `body`, without the findings that are nothing but placeholders.

        No placeholder and no pseudonym stands in the text that was masked, so wherever one stands
        now, this request put it there, and it says nothing.
        """
        tokens = [entry.token for entry in self.vault]
        texts = {segment.index: segment.text for segment in inspection.segments}
        inside: dict[int, list[bool]] = {}
        left = []
        for finding in inspection.findings:
            text = texts.get(finding.segment) or ""
            covered = inside.get(finding.segment)
            if covered is None:
                covered = inside[finding.segment] = _covered(text, tokens)
            span = range(finding.start, finding.end)
            if any(text[place].isalnum() and not covered[place] for place in span):
                left.append(finding)
        return replace(inspection, findings=tuple(left))


def mask(
    body: JSONObject, inspection: Inspection, masks: Sequence[Mask], route: str
) -> Masked | None:
    """Replace what the findings of ``masks`` point at, wherever it stands in ``body``.

    Args:
        body: what would leave.
        inspection: the inspection that the findings stem from.
        masks: what is to be masked, and how.
        route: the API route that it goes to, which says where text is free.

    Returns:
        None where a value stands in a place that cannot be masked.
    """
    try:
        values = Values.of(inspection, masks)
        vault = Vault("\n".join(_strings(body)))
        masked = _Writer(values, vault, route).value(body, ())
    except Unmaskable:
        return None
    if not isinstance(masked, dict):
        return None
    counts = Counter(finding.entity for finding in {each.finding for each in masks})
    return Masked(masked, vault, tuple(sorted(counts.items())))


class _Writer:
    """Writes a body anew, with placeholders."""

    def __init__(self, values: Values, vault: Vault, route: str) -> None:
        self._values = values
        self._vault = vault
        self._route = route

    def value(self, value: JSON, where: Where, path: str = "") -> JSON:
        match value:
            case str():
                return self._string(value, where, path)
            case bool() | None:
                return value
            case int() | float():
                self._must_stay(path, number_text(value))
                return value
            case dict():
                return {
                    key: self._member(key, member, where, path) for key, member in value.items()
                }
        return [
            self.value(item, (*where, index), f"{path}[{index}]")
            for index, item in enumerate(value)
        ]

    def _member(self, key: str, member: JSON, where: Where, path: str) -> JSON:
        place = child_path(path, key)
        self._must_stay(place, key)
        return self.value(member, (*where, key), place)

    def _string(self, text: str, where: Where, path: str) -> str:
        if not is_free(self._route, where):
            if where != ("model",):
                self._must_stay(path, text)
            return text
        embedded = _read_embedded(text)
        if embedded is None:
            return self._replaced(path, text)
        written = self._embedded(embedded, path, depth=1)
        return text if written == embedded else _as_json(written)

    def _embedded(self, value: JSON, path: str, depth: int) -> JSON:
        """JSON that stands inside a string: all its strings are free text."""
        match value:
            case str():
                inner = _read_embedded(value) if depth < MAX_EMBEDDED_DEPTH + 1 else None
                if inner is None:
                    return self._replaced(path, value)
                written = self._embedded(inner, path, depth + 1)
                return value if written == inner else _as_json(written)
            case bool() | None:
                return value
            case int() | float():
                self._must_stay(path, number_text(value))
                return value
            case dict():
                for key in value:
                    self._must_stay(path, key)
                return {key: self._embedded(item, path, depth) for key, item in value.items()}
        return [self._embedded(item, path, depth) for item in value]

    def _replaced(self, path: str, text: str) -> str:
        spans = self._values.found_in(path, text)
        if not spans:
            return text
        pieces: list[str] = []
        done = 0
        for span in spans:
            value = text[span.start : span.end]
            glued = _glued(text, span.start - 1) or _glued(text, span.end) or span.start == done > 0
            glued = glued or any(span.end == other.start for other in spans)
            token = self._vault.token_for(span.entity, value, span.by, glued=glued)
            pieces += (text[done : span.start], token)
            done = span.end
        return "".join(pieces) + text[done:]

    def _must_stay(self, path: str, text: str) -> None:
        if not is_structural(text) and self._values.found_in(path, text):
            raise Unmaskable


def _glued(text: str, place: int) -> bool:
    """Whether a sign stands at ``place`` of which a word next to it could be a part."""
    return 0 <= place < len(text) and text[place].isascii() and text[place].isalnum()


def _read_embedded(text: str) -> JSON:
    """The JSON that a string holds; None where it is plain text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return parse_object(f'{{"":{text}}}'.encode("utf-8", "surrogatepass"))[""]
    except RequestError:
        return None


def _as_json(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _strings(value: JSON) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, member in value.items():
                yield key
                yield from _strings(member)
        case list():
            for item in value:
                yield from _strings(item)


def _covered(text: str, tokens: Sequence[str]) -> list[bool]:
    """For each character of ``text``, whether it is part of one of ``tokens``."""
    covered = [False] * len(text)
    for token in tokens:
        start = text.find(token)
        while start >= 0:
            covered[start : start + len(token)] = [True] * len(token)
            start = text.find(token, start + len(token))
    return covered
