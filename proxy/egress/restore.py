"""Puts values back where an answer holds their placeholders, however the answer is cut into chunks.

A placeholder may come back in another case, with blanks or escapes in it, without its brackets, or
within JSON within JSON. One that this request never made, or that cannot be recognized, is left as
it is: no other value ever takes its place.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from proxy.egress.grammar import Part, chars, choice, named, optional, sequence, text
from proxy.egress.nesting import Nesting, escaped
from proxy.egress.placeholders import ALPHABET, ID_CHARS, Vault
from proxy.egress.reversal import PseudonymRestorer
from proxy.types import JSON, JSONObject

#: The member of an answer that says what this proxy did to it; OpenAI's API has none of that name.
MARK: Final = "ringfence"

#: What a tool is called with, beside its name: functions, and tools of free text.
_GIVEN: Final = frozenset({"arguments", "input"})

_BACKSLASHES: Final = "\\\\"


def _bracket(sign: str, name: str, code: int) -> Part:
    """An angle bracket as answers write it: plain, or escaped for JSON, HTML or a URL."""
    entities = (f"&{name};", f"&amp;{name};", f"&#{code};", f"&#x{code:x};")
    url = (f"%{code:x}", f"%25{code:x}")
    return choice(
        (
            sequence((chars(_BACKSLASHES, 0, 8), choice((text(sign), text(f"u00{code:x}"))))),
            *(text(form) for form in (*entities, *url)),
        )
    )


_JOINT: Final = sequence((chars(_BACKSLASHES, 0, 4), chars("_ \\-")))
_BLANK: Final = chars(" ", 0, 1)


@lru_cache(maxsize=256)
def _grammar(entities: frozenset[str]) -> tuple[re.Pattern[str], re.Pattern[str], int]:
    """Patterns for a placeholder of one of ``entities``, for one that has begun, and its size."""
    words = choice(_name(entity) for entity in sorted(entities, key=lambda e: (-len(e), e)))
    opener = optional(sequence((named("opener", _bracket("<", "lt", 0x3C)), _BLANK)))
    closer = sequence((_BLANK, named("closer", _bracket(">", "gt", 0x3E))))
    core = (named("entity", words), _JOINT, named("id", chars(ALPHABET, ID_CHARS, ID_CHARS)))
    head = sequence((opener, *core))
    whole = f"{head.whole}(?:{closer.whole}|(?![A-Za-z0-9]))"
    begun = f"(?=.){sequence((head, closer)).begun}"
    flags = re.IGNORECASE | re.DOTALL
    return re.compile(whole, flags), re.compile(begun, flags), head.most + closer.most


def _name(entity: str) -> Part:
    """The name of an entity, its words joined as an answer may join them."""
    first, *others = entity.split("_")
    parts = [text(first)]
    for word in others:
        parts += (_JOINT, text(word))
    return sequence(parts)


class Restorer:
    """Restores one text, which may come in chunks.

    Attributes:
        num_unknown: what looks like a placeholder and is none of this request.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._pattern, self._begun, self._most = _grammar(
            frozenset(entry.entity for entry in vault) or frozenset({"PERSON"})
        )
        self._nesting = Nesting()
        self._pseudonyms = PseudonymRestorer(vault)
        self._held = ""
        self._num_restored = 0
        self.num_unknown = 0

    def feed(self, chunk: str) -> str:
        """What may be shown now that ``chunk`` has come; the beginning of a placeholder waits."""
        return self._feed(self._pseudonyms.feed(chunk))

    def end(self) -> str:
        """What is left at the end of the text."""
        shown = self._feed(self._pseudonyms.end())
        return shown + self._show(self._held, len(self._held))

    @property
    def num_restored(self) -> int:
        """What was replaced by its value so far: placeholders and pseudonyms."""
        return self._num_restored + self._pseudonyms.num_restored

    def _feed(self, chunk: str) -> str:
        held = self._held + chunk
        tail = max(len(held) - self._most, 0)
        begun = self._begun.search(held, tail)
        return self._show(held, begun.start() if begun else len(held))

    def _show(self, held: str, until: int) -> str:
        """Take ``held`` up to ``until``, and any placeholder that begins before it, whole."""
        shown: list[str] = []
        done = 0
        for match in self._pattern.finditer(held):
            if match.start() >= until:
                break
            shown += (self._plain(held[done : match.start()]), self._restored(match))
            done = match.end()
        if done < until:
            shown.append(self._plain(held[done:until]))
            done = until
        self._held = held[done:]
        return "".join(shown)

    def _plain(self, piece: str) -> str:
        self._nesting.feed(piece)
        return piece

    def _restored(self, match: re.Match[str]) -> str:
        depth = self._nesting.depth
        self._nesting.feed(match.group())
        entity = re.sub(r"\\*[_ -]", "_", match["entity"])
        whole: str = match.group()
        entry = self._vault.find(entity, match["id"])
        if entry is None:
            self.num_unknown += match["opener"] is not None and match["closer"] is not None
            return whole
        if entry.by.one_way:
            return whole
        self._num_restored += 1
        opener = match["opener"] or ""
        return _kept(opener, match["closer"] or "", depth) + _written(entry.value, opener, depth)


def _kept(opener: str, closer: str, depth: int) -> str:
    """The backslashes before a placeholder that are no part of it, such as those of a path."""
    num = len(opener) - len(opener.lstrip("\\"))
    if opener.lower().endswith("u003c"):
        own = 1 << (max(depth, 1) - 1)
    else:
        own = min(num, len(closer) - len(closer.lstrip("\\")))  # Markdown escapes both brackets
    return "\\" * max(num - own, 0)


def _written(value: str, opener: str, depth: int) -> str:
    """A value in the form in which its placeholder was written."""
    form = opener.lower()
    if form.startswith("&"):
        value = html.escape(value, quote=False)
    elif form.startswith("%"):
        for _ in range(2 if form.startswith("%25") else 1):
            value = quote(value, safe="")
    return escaped(value, max(depth, 1) if form.endswith("u003c") else depth)


class AnswerRestorer:
    """Restores a whole answer, and counts over all its texts.

    Attributes:
        num_restored: what was replaced by its value.
        num_unknown: what looks like a placeholder and is none of this request.
        marked: the ids of the tool calls into which values were put back.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.num_restored = 0
        self.num_unknown = 0
        self.marked: list[str] = []

    def answer(self, body: JSONObject) -> JSONObject:
        """``body`` with values in place of placeholders, in every text of it, whatever its form.

        Log-probabilities are those of the placeholders' tokens, which the client never sees; they
        are left out of a choice in which anything was restored. Tool calls with values in them are
        named under `MARK`, since a tool may reach outside.
        """
        restored = {key: member for key, member in self._object(body, "").items() if key != MARK}
        return {**restored, MARK: {"restored_tool_calls": self.marked}} if self.marked else restored

    def _object(self, body: JSONObject, parent_id: str) -> dict[str, JSON]:
        before = self.num_restored
        id_ = body.get("call_id") or body.get("id")
        restored: dict[str, JSON] = {
            key: member
            if key == "logprobs"
            else self._value(member, id_ if isinstance(id_, str) else "")
            for key, member in body.items()
        }
        if self.num_restored != before:
            if "logprobs" in restored:
                restored["logprobs"] = None
            if isinstance(name := restored.get("name"), str) and not body.keys().isdisjoint(_GIVEN):
                self.marked.append(str(restored.get("call_id") or parent_id or name))
        return restored

    def _value(self, value: JSON, parent_id: str) -> JSON:
        match value:
            case str():
                return self._text(value)
            case dict():
                return self._object(value, parent_id)
            case list():
                return [self._value(item, parent_id) for item in value]
        return value

    def _text(self, value: str) -> str:
        restorer = Restorer(self._vault)
        shown = restorer.feed(value) + restorer.end()
        self.num_restored += restorer.num_restored
        self.num_unknown += restorer.num_unknown
        return shown


def restored_in_chunks(vault: Vault, chunks: Iterable[str]) -> str:
    """All of a text that came in ``chunks``."""
    restorer = Restorer(vault)
    return "".join([*(restorer.feed(chunk) for chunk in chunks), restorer.end()])
