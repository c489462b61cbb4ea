"""The surface of a request: every string, key, long number and blob of its JSON, as segments.

It walks the whole tree and knows no list of fields to look at: a field that nobody taught it about
is read like any other. It must never leave a string out.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.inspection.paths import child_path
from proxy.inspection.structural import is_structural, is_structural_number, number_text
from proxy.inspection.views.decode import decode
from proxy.inspection.views.view import identity
from proxy.types import JSON, JSONObject, Origin, Role, Segment, Unscannable, UnscannableReason

#: JSON inside a string is read this often: arguments of a tool call that hold JSON that holds JSON.
MAX_EMBEDDED_DEPTH: Final = 3

_DATA_URL: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*;base64,(?P<data>.*)", re.DOTALL
)

#: A longer file is not read, as base64 letters.
MAX_FILE_CHARS: Final = 200_000

#: Files that are text.
_TEXT_TYPE: Final = re.compile(r"text/(?:plain|csv|markdown|html|xml)|application/(?:json|xml)")

#: Fields whose string is a blob in base64 without a data: URL (OpenAI API reference).
_BLOB_FIELDS: Final = {"data": UnscannableReason.AUDIO, "file_data": UnscannableReason.FILE}


@dataclass(frozen=True, slots=True)
class Surface:
    """What is to be inspected, and what cannot be.

    ``num_strings`` counts all strings, keys, long numbers and blobs; ``num_structural`` those of
    them that are words of the API and have no segment. Segments of origin EMBEDDED are read besides
    the string they stand in and are not counted again.
    """

    segments: tuple[Segment, ...] = field(repr=False)
    unscannable: tuple[Unscannable, ...]
    num_strings: int
    num_structural: int


def surface(body: JSONObject) -> Surface:
    """All segments of ``body``, in the order they stand in."""
    walk = _Walk()
    walk.value(body, "", Role.NONE)
    return Surface(
        tuple(walk.segments), tuple(walk.unscannable), walk.num_strings, walk.num_structural
    )


class _Walk:
    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.unscannable: list[Unscannable] = []
        self.num_strings = 0
        self.num_structural = 0

    def value(self, value: JSON, path: str, role: Role) -> None:
        match value:
            case str():
                self._count(is_structural(value))
                if not is_structural(value):
                    self._text(value, path, role)
            case bool() | None:
                return
            case int() | float():
                if not is_structural_number(value):
                    self._count(False)
                    self._add(path, role, Origin.NUMBER, number_text(value))
            case dict():
                self._object(value, path, _role_of(value, role))
            case list():
                for index, member in enumerate(value):
                    self.value(member, f"{path}[{index}]", role)

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

    def _text(self, text: str, path: str, role: Role) -> None:
        index = self._add(path, role, Origin.VALUE, text)
        if text.lstrip()[:1] in ("{", "["):
            self._embedded(text, path, role, depth=1, index=index)

    def _blob(self, key: str, text: str, path: str, role: Role) -> bool:
        """Whether a string is a blob, a place elsewhere, or the name of a stored file."""
        if match := _DATA_URL.fullmatch(text):
            media_type = match["type"] or "text/plain"
            is_text = len(text) <= MAX_FILE_CHARS and _TEXT_TYPE.fullmatch(media_type)
            if is_text and _reads_as_text(text, match["data"]):
                return False
            self._bytes(match["data"], path, role, media_type, _reason_of(media_type))
            return True
        if key in _BLOB_FIELDS and _looks_like_base64(text):
            self._bytes(text, path, role, None, _BLOB_FIELDS[key])
            return True
        if key in ("file_id", "previous_response_id"):
            self._mark(self._add(path, role, Origin.VALUE, text), UnscannableReason.FILE)
            return True
        if key in ("url", "image_url", "file_url") and re.match(r"\s*\w+:", text):
            self._mark(self._add(path, role, Origin.VALUE, text), UnscannableReason.REMOTE_URL)
            return True
        return False

    def _bytes(
        self, data: str, path: str, role: Role, media_type: str | None, reason: UnscannableReason
    ) -> None:
        try:
            blob = base64.b64decode(data, validate=False)
        except (binascii.Error, ValueError):
            blob, reason = b"", UnscannableReason.UNDECODABLE
        index = len(self.segments)
        self.segments.append(
            Segment(index, path, role, Origin.BLOB, blob=blob, media_type=media_type)
        )
        self._mark(index, reason)

    def _embedded(self, text: str, path: str, role: Role, *, depth: int, index: int) -> None:
        """JSON inside a string: read its leaves too; what is not strict JSON is unscannable."""
        try:
            # An array is read as the one member of an object, so that one strict reader serves.
            members = parse_object(f'{{"":{text}}}'.encode("utf-8", "surrogatepass"))
        except RequestError as error:
            if error.code != "invalid_json":  # invalid JSON is plain text, and was read as such
                self._mark(index, UnscannableReason.UNDECODABLE)
            return
        for leaf in _leaves(members[""]):
            if is_structural(leaf):
                continue
            inner = self._add(path, role, Origin.EMBEDDED, leaf)
            if leaf.lstrip()[:1] in ("{", "["):
                if depth < MAX_EMBEDDED_DEPTH:
                    self._embedded(leaf, path, role, depth=depth + 1, index=inner)
                else:
                    self._mark(inner, UnscannableReason.UNDECODABLE)

    def _add(self, path: str, role: Role, origin: Origin, text: str) -> int:
        index = len(self.segments)
        self.segments.append(Segment(index, path, role, origin, text=text))
        return index

    def _mark(self, index: int, reason: UnscannableReason) -> None:
        self.unscannable.append(Unscannable(index, reason))

    def _count(self, structural: bool) -> None:
        self.num_strings += 1
        self.num_structural += structural


def _role_of(members: JSONObject, enclosing: Role) -> Role:
    role = members.get("role")
    return Role(role) if isinstance(role, str) and role in set(Role) else enclosing


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


def _looks_like_base64(text: str) -> bool:
    return len(text) >= 16 and re.fullmatch(r"[A-Za-z0-9+/_=\s-]+", text) is not None


def _reads_as_text(url: str, data: str) -> bool:
    """Whether the detectors will read the whole text of a data: URL, in its decoded view."""
    try:
        plain = base64.b64decode(data, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return False
    return plain in decode(identity(url)).text


def _reason_of(media_type: str) -> UnscannableReason:
    family = media_type.split("/")[0]
    known = {"image": UnscannableReason.IMAGE, "audio": UnscannableReason.AUDIO}
    return known.get(family, UnscannableReason.FILE)
