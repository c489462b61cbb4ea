"""Puts values back into the chunks of a streamed answer, wherever a placeholder is cut.

Each text of an answer (the content of a choice, the arguments of one of its tool calls) has a
restorer of its own. What one holds back is told before that choice says anything else, since
clients take a text for ended then, and before the chunk that ends the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.egress.placeholders import Vault
from proxy.egress.restore import Restorer
from proxy.routes.events import BrokenStream
from proxy.types import JSON, JSONObject

#: More texts than any answer has; each takes memory until its end.
MAX_TEXTS: Final = 1024

#: Members of a delta that come in one piece, and are no text.
_WORDS: Final = frozenset({"id", "role", "type"})

#: The members of a choice in which it says something; chat completions and completions.
_SAYING: Final = ("delta", "text")

#: What a tool is called with, beside its name.
_GIVEN: Final = ("arguments", "input")

_Path = tuple[str | int, ...]


class ChunkRestorer:
    """Restores the chunks of one answer, and counts over all its texts."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._texts: dict[int, dict[_Path, Restorer]] = {}
        self._open: dict[int, dict[_Path, None]] = {}  # texts that may hold something back
        self._words: dict[tuple[int, _Path], str] = {}
        self._num_whole: list[Restorer] = []

    @property
    def num_restored(self) -> int:
        """What was replaced by its value so far."""
        return sum(one.num_restored for one in self._all())

    @property
    def num_unknown(self) -> int:
        """What looks like a placeholder and is none of this request."""
        return sum(one.num_unknown for one in self._all())

    @property
    def marked(self) -> list[str]:
        """The tool calls into which values were put back: their ids, or else their names."""
        return [
            self._words.get((index, (*path[:-2], "id")))
            or self._words.get((index, (*path[:-1], "name")), "")
            for index, texts in self._texts.items()
            for path, text in texts.items()
            if path[-1] in _GIVEN and text.num_restored
        ]

    def choices(self, choices: list[JSONObject]) -> Iterator[list[JSONObject]]:
        """What to tell in place of one chunk's ``choices``: the choices of one chunk or more.

        Log-probabilities are those of the placeholders' tokens; there are none.

        Raises:
            BrokenStream: ``garbage``: more texts than any answer has.
        """
        now: list[JSONObject] = []
        for choice in choices:
            index = choice["index"]
            if not isinstance(index, int):
                raise BrokenStream("garbage")
            ends = choice.get("finish_reason") is not None
            said: set[_Path] = set()
            shown: dict[str, JSON] = {
                name: self._value(index, (name,), member, (said, ends))
                if name in _SAYING
                else member
                for name, member in choice.items()
            }
            if "logprobs" in shown:
                shown["logprobs"] = None
            if said or ends:
                yield from ([rest] for rest in self._rests(index, said))
            now.append(shown)
        yield now

    def rests(self) -> Iterator[list[JSONObject]]:
        """What is left of all texts at the end of the answer, as choices of chunks."""
        for index in self._open:
            yield from ([rest] for rest in self._rests(index, set()))

    def _rests(self, index: int, but: set[_Path]) -> Iterator[JSONObject]:
        """What the texts of a choice hold back, but for some; a text may go on after that."""
        held = self._open.get(index, {})
        for path in [path for path in held if path not in but]:
            del held[path]
            rest = self._texts[index][path].end()
            if rest:
                member = _nested(path, rest)
                yield {"index": index, **member, "logprobs": None, "finish_reason": None}

    def _value(self, index: int, path: _Path, value: JSON, now: tuple[set[_Path], bool]) -> JSON:
        match value:
            case str():
                return self._text(index, path, value, now)
            case dict():
                return {
                    name: self._value(index, (*path, name), member, now)
                    for name, member in value.items()
                }
            case list():
                return [self._item(index, path, item, now) for item in value]
        return value

    def _item(self, index: int, path: _Path, item: JSON, now: tuple[set[_Path], bool]) -> JSON:
        """An item of a list; one with an index is a piece of what has come before under it."""
        place = item.get("index") if isinstance(item, dict) else None
        if isinstance(place, int):
            return self._value(index, (*path, place), item, now)
        return self._whole(item)

    def _text(self, index: int, path: _Path, value: str, now: tuple[set[_Path], bool]) -> str:
        said, ends = now
        if path[-1] in _WORDS or path[-1] == "name":
            shown = value if path[-1] in _WORDS else str(self._whole(value))
            if shown:
                self._words.setdefault((index, path), shown)
                self._check_size()
            return shown
        texts = self._texts.setdefault(index, {})
        text = texts.get(path)
        if text is None:
            text = texts[path] = Restorer(self._vault)
            self._check_size()
        if value:
            said.add(path)
            self._open.setdefault(index, {})[path] = None
        shown = text.feed(value)
        return shown + text.end() if ends else shown

    def _whole(self, value: JSON) -> JSON:
        match value:
            case str():
                text = Restorer(self._vault)
                shown = text.feed(value) + text.end()
                if text.num_restored or text.num_unknown:
                    self._num_whole.append(text)
                    self._check_size()
                return shown
            case dict():
                return {name: self._whole(member) for name, member in value.items()}
            case list():
                return [self._whole(item) for item in value]
        return value

    def _check_size(self) -> None:
        num_texts = sum(map(len, self._texts.values())) + len(self._num_whole)
        if num_texts > MAX_TEXTS or len(self._words) > 4 * MAX_TEXTS:
            raise BrokenStream("garbage")

    def _all(self) -> Iterator[Restorer]:
        for texts in self._texts.values():
            yield from texts.values()
        yield from self._num_whole


def _nested(path: _Path, text: str) -> dict[str, JSON]:
    """A text at its place in a choice."""
    value: JSON = text
    for step in reversed(path):
        if isinstance(step, int):
            value = [{"index": step, **value}] if isinstance(value, dict) else [value]
        else:
            value = {step: value}
    return value if isinstance(value, dict) else {}
