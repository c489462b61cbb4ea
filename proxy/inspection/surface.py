"""The surface of a request: every string, key, long number and blob of its JSON, as segments.

It walks the whole tree and knows no list of fields to look at: a field that nobody taught it about
is read like any other. It must never leave a string out.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.inspection.files.extract import Extract
from proxy.inspection.paths import child_path
from proxy.inspection.structural import is_structural, is_structural_number, number_text
from proxy.types import JSON, JSONObject, Origin, Role, Segment, Unscannable, UnscannableReason

#: JSON inside a string is read this often: arguments of a tool call that hold JSON that holds JSON.
MAX_EMBEDDED_DEPTH: Final = 3

_DATA_URL: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<more>(?:;[\w.+-]+=[\w.+-]+)*);base64,(?P<data>.*)",
    re.DOTALL,
)

#: Parameters of a data: URL that say nothing of their own.
_PLAIN_PARAMETERS: Final = frozenset({"", ";charset=utf-8", ";charset=us-ascii"})

#: The most files of one request that are read.
MAX_FILES: Final = 20

#: Who says an item of the Responses API that names no role.
_ITEM_ROLES: Final = {
    "function_call": Role.ASSISTANT,
    "function_call_output": Role.TOOL,
    "reasoning": Role.ASSISTANT,
}

#: A row of at least so many numbers is taken for a text in a code.
MIN_ROW: Final = 16

#: Fields whose string is a blob in base64 without a data: URL (OpenAI API reference), and why it
#: cannot be read, where that is known beforehand.
_BLOB_FIELDS: Final = {"data": UnscannableReason.AUDIO, "file_data": None}


#: An address that a provider may fetch: the whole of a string of a content part, unless it is text.
_ADDRESS: Final = re.compile(r"\s*(?:[A-Za-z][\w+.-]*:)?//\S+\s*")
_IN_PART: Final = re.compile(r"\.(?:content|output)\[\d+\]\.(?!(?:.*\.)?(?:text|refusal)$)")


@dataclass(frozen=True, slots=True)
class Surface:
    """What is to be inspected, and what cannot be.

    ``num_strings`` counts all strings, keys, long numbers and blobs; ``num_structural`` those of
    them that are words of the API and have no segment. Segments of origin EMBEDDED and FILE are
    read besides the string they stand in and are not counted again.

    ``files`` are the blobs that may be read: each of them is unscannable until `with_files` has
    put its texts in. ``taken`` has the segments that each blob was read as, all of which must be
    inspected for the blob to count as inspected.
    """

    segments: tuple[Segment, ...] = field(repr=False)
    unscannable: tuple[Unscannable, ...]
    num_strings: int
    num_structural: int
    files: tuple[Segment, ...] = field(default=(), repr=False)
    taken: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    started_s: float = field(default_factory=time.perf_counter)


def surface(body: JSONObject, *, pictures: bool = False) -> Surface:
    """All segments of ``body``, in the order they stand in.

    Args:
        body: a request.
        pictures: whether pictures are files to read.
    """
    walk = _Walk(pictures=pictures)
    walk.value(body, "", Role.NONE)
    return Surface(
        tuple(walk.segments),
        tuple(walk.unscannable),
        walk.num_strings,
        walk.num_structural,
        tuple(walk.files),
    )


def with_files(found: Surface, extracts: Mapping[int, Extract]) -> Surface:
    """``found`` with the texts of its files as segments behind the others.

    Args:
        found: the surface of a request.
        extracts: what came of its files, by index; a file that is missing is unscannable.
    """
    if not found.files:
        return found
    walk = _Walk()
    walk.segments, walk.unscannable = list(found.segments), list(found.unscannable)
    taken: dict[int, tuple[int, ...]] = {}
    for file in found.files:
        extract = extracts.get(file.index, Extract(reason=UnscannableReason.FILE))
        first = len(walk.segments)
        for text in extract.texts:
            walk.text(text, file.path, file.role, Origin.FILE)
        taken[file.index] = tuple(range(first, len(walk.segments)))
        if extract.reason is not None:
            walk.mark(file.index, extract.reason)
    return replace(
        found,
        segments=tuple(walk.segments),
        unscannable=tuple(walk.unscannable),
        files=(),
        taken=taken,
    )


class _Walk:
    def __init__(self, *, pictures: bool = False) -> None:
        self._pictures = pictures
        self.segments: list[Segment] = []
        self.unscannable: list[Unscannable] = []
        self.files: list[Segment] = []
        self.num_strings = 0
        self.num_structural = 0

    def value(self, value: JSON, path: str, role: Role) -> None:
        match value:
            case str():
                self._count(is_structural(value))
                if not is_structural(value):
                    index = self.text(value, path, role, Origin.VALUE)
                    if _ADDRESS.fullmatch(value) and _IN_PART.search(path):
                        self.mark(index, UnscannableReason.REMOTE_URL)
            case bool() | None:
                return
            case int() | float():
                if not is_structural_number(value):
                    self._count(False)
                    self._add(path, role, Origin.NUMBER, number_text(value))
            case dict():
                self._object(value, path, _role_of(value, role))
            case list():
                if _spells(value, path):
                    self._unread_numbers(path, role)
                for index, member in enumerate(value):
                    self.value(member, f"{path}[{index}]", role)

    def _unread_numbers(self, path: str, role: Role) -> None:
        """A row of numbers may be a text in a code nobody here reads: token ids, characters."""
        self._count(False)
        index = len(self.segments)
        self.segments.append(Segment(index, path, role, Origin.BLOB, blob=b""))
        self.mark(index, UnscannableReason.UNDECODABLE)

    def _object(self, members: JSONObject, path: str, role: Role) -> None:
        for key, member in members.items():
            place = child_path(path, key)
            self._count(is_structural(key))
            if not is_structural(key):
                self._add(place, role, Origin.KEY, key)
            if (
                isinstance(member, str)
                and not is_structural(member)
                and self._blob(key, member, place, role)
            ):
                self._count(False)
                continue
            self.value(member, place, role)

    def text(self, text: str, path: str, role: Role, origin: Origin) -> int:
        """A text, and what stands in it where it is JSON itself; its index."""
        index = self._add(path, role, origin, text)
        if text.lstrip()[:1] in ("{", "["):
            self._embedded(text, path, role, depth=1, index=index)
        return index

    def _blob(self, key: str, text: str, path: str, role: Role) -> bool:
        """Whether a string is a blob, a place elsewhere, or the name of a stored file."""
        if match := _DATA_URL.fullmatch(text):
            media_type = match["type"] or "text/plain"
            reason = _reason_of(media_type)
            if reason is UnscannableReason.IMAGE and self._pictures:
                reason = None
            if match["more"].lower() not in _PLAIN_PARAMETERS:
                reason = reason or UnscannableReason.FILE
            self._bytes(
                Segment(0, path, role, Origin.BLOB, media_type=media_type, source=text),
                match["data"],
                reason,
            )
            return True
        if key in _BLOB_FIELDS and _looks_like_base64(text):
            self._bytes(Segment(0, path, role, Origin.BLOB, source=text), text, _BLOB_FIELDS[key])
            return True
        if key in ("file_id", "previous_response_id"):
            self.mark(self._add(path, role, Origin.VALUE, text), UnscannableReason.FILE)
            return True
        if key in ("url", "image_url", "file_url") and re.match(r"\s*\w+:", text):
            self.mark(self._add(path, role, Origin.VALUE, text), UnscannableReason.REMOTE_URL)
            return True
        return False

    def _bytes(self, blob: Segment, letters: str, reason: UnscannableReason | None) -> None:
        """A blob in base64: a file to read, where ``reason`` is None."""
        data = _strict_base64(letters)
        if data is None:
            reason = reason or UnscannableReason.UNDECODABLE
        elif reason is None and len(self.files) >= MAX_FILES:
            reason = UnscannableReason.TOO_LONG
        blob = replace(blob, index=len(self.segments), blob=data or b"")
        self.segments.append(blob)
        if reason is None:
            self.files.append(blob)
        else:
            self.mark(blob.index, reason)

    def _embedded(self, text: str, path: str, role: Role, *, depth: int, index: int) -> None:
        """JSON inside a string: read its leaves too; what is not strict JSON is unscannable."""
        try:
            # An array is read as the one member of an object, so that one strict reader serves.
            members = parse_object(f'{{"":{text}}}'.encode("utf-8", "surrogatepass"))
        except RequestError as error:
            if error.code != "invalid_json":  # invalid JSON is plain text, and was read as such
                self.mark(index, UnscannableReason.UNDECODABLE)
            return
        for leaf in _leaves(members[""]):
            if is_structural(leaf):
                continue
            inner = self._add(path, role, Origin.EMBEDDED, leaf)
            if leaf.lstrip()[:1] in ("{", "["):
                if depth < MAX_EMBEDDED_DEPTH:
                    self._embedded(leaf, path, role, depth=depth + 1, index=inner)
                else:
                    self.mark(inner, UnscannableReason.UNDECODABLE)

    def _add(self, path: str, role: Role, origin: Origin, text: str) -> int:
        index = len(self.segments)
        self.segments.append(Segment(index, path, role, origin, text=text))
        return index

    def mark(self, index: int, reason: UnscannableReason) -> None:
        """Say that a segment cannot be inspected."""
        self.unscannable.append(Unscannable(index, reason))

    def _count(self, structural: bool) -> None:
        self.num_strings += 1
        self.num_structural += structural


def _role_of(members: JSONObject, enclosing: Role) -> Role:
    role = members.get("role")
    if isinstance(role, str) and role in set(Role):
        return Role(role)
    kind = members.get("type")
    return _ITEM_ROLES.get(kind, enclosing) if isinstance(kind, str) else enclosing


def _leaves(value: JSON) -> list[str]:
    """Strings, keys and long numbers of a value that stands inside a string."""
    found: list[str] = []
    todo: list[JSON] = [value]
    while todo:
        match todo.pop():
            case str() as text:
                found.append(text)
            case bool() | None:
                continue
            case int() | float() as number:
                if not is_structural_number(number):
                    found.append(number_text(number))
            case dict() as members:
                found.extend(members)
                todo.extend(members.values())
            case list() as items:
                todo.extend(items)
    return found


def _spells(members: Sequence[JSON], path: str) -> bool:
    """Whether a list of numbers, or of lists of them, may spell a text."""
    is_prompt = re.fullmatch(r"(?:prompt|input)(?:\[\d+\])?", path) is not None
    needed = 1 if is_prompt else MIN_ROW
    num_numbers, todo = 0, list(members)
    while todo:
        match todo.pop():
            case bool():
                return False
            case int() | float():
                num_numbers += 1
            case list() as inner:
                todo.extend(inner)
            case _:
                return False
    return num_numbers >= needed


def _looks_like_base64(text: str) -> bool:
    return len(text) >= 16 and re.fullmatch(r"[A-Za-z0-9+/_=\s-]+", text) is not None


def _strict_base64(letters: str) -> bytes | None:
    """The bytes that ``letters`` encode, or None where another reader could decode others."""
    try:
        data = base64.b64decode(letters, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == letters else None


def _reason_of(media_type: str) -> UnscannableReason | None:
    """Why no file of this kind can be read, or None where its reader will tell."""
    family = media_type.split("/")[0].lower()
    known = {"image": UnscannableReason.IMAGE, "audio": UnscannableReason.AUDIO}
    return known.get(family)
