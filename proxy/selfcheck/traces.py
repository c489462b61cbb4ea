"""Finds planted values in whatever was written, in every form, in one pass over the bytes.

All forms of all values go into one index by their first eight bytes. The data is lower-cased once
and walked once: a table of 2^20 bits says where a form may begin, and only there one is compared.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from proxy.types import JSON

#: Bytes of a form that it is indexed by; no form is shorter.
WINDOW: Final = 8

#: JSON in a string in JSON is read this deep, and no body is inflated to more than this.
_MAX_NESTED: Final = 4
_HASH_BITS: Final = 20
_CHUNK_BYTES: Final = 1 << 20
#: Source: Knuth, The Art of Computer Programming 3, section 6.4.
_FACTOR: Final = 2_654_435_761
_MAX_INFLATED_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Trace:
    """What shows that a value got somewhere: any of its ``forms``, or all of its ``pieces``."""

    owner: int
    value: str = field(repr=False)
    pieces: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Needle:
    owner: int
    form: str
    data: bytes = field(repr=False)
    piece: int | None = None


def forms(value: str) -> Iterator[tuple[str, bytes]]:
    """Every form of ``value`` that programs make of it by themselves, with its name."""
    data = value.encode()
    compact = value.replace(" ", "").replace("-", "")
    yield "plain", data
    yield "compact", compact.encode()
    yield "reversed", data[::-1]
    yield "escaped in a URL", quote(value, safe="").encode()
    yield "escaped in a form", quote_plus(value).encode()
    yield "percent", "".join(f"%{byte:02x}" for byte in data).encode()
    yield "percent twice", "".join(f"%25{byte:02x}" for byte in data).encode()
    yield "entities", "".join(f"&#{ord(char)};" for char in value).encode()
    yield "hex entities", "".join(f"&#x{ord(char):x};" for char in value).encode()
    yield "JSON escapes", "".join(f"\\u{ord(char):04x}" for char in value).encode()
    yield "byte escapes", "".join(f"\\x{byte:02x}" for byte in data).encode()
    yield "quoted printable", "".join(f"={byte:02x}" for byte in data).encode()
    for name, one in (("", data), ("compact, ", compact.encode())):
        yield f"{name}hex", one.hex().encode()
        yield f"{name}spaced hex", one.hex(" ").encode()
        yield from ((f"{name}base64", form) for form in _base64(one))
        yield from ((f"{name}base32", form) for form in _base32(one))
        for algorithm in ("md5", "sha1", "sha256"):
            digest = hashlib.new(algorithm, one).digest()
            yield f"{name}{algorithm}, raw", digest
            yield f"{name}{algorithm}, hex", digest.hex().encode()
            yield f"{name}{algorithm}, base64", base64.b64encode(digest).rstrip(b"=")


def _hashes(data: bytes) -> NDArray[np.uint32]:
    """The hash of the four bytes at each place of ``data``; shape ``(len(data) - 3,)``."""
    if len(data) < 4:
        return np.zeros(0, dtype=np.uint32)
    one = np.frombuffer(data, dtype=np.uint8).astype(np.uint32)
    four = one[:-3].copy()
    for place, shift in ((one[1:-2], 8), (one[2:-1], 16), (one[3:], 24)):
        four |= np.left_shift(place, np.uint32(shift))
    four *= np.uint32(_FACTOR)
    return np.right_shift(four, np.uint32(32 - _HASH_BITS))


class Searcher:
    """Finds traces. Case does not count: an e-mail address in capitals is the same one."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self._index: dict[bytes, list[_Needle]] = defaultdict(list)
        self._num_pieces: dict[int, int] = {}
        self._begins = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        for trace in traces:
            self._num_pieces[trace.owner] = len(trace.pieces)
            for name, form in forms(trace.value):
                self._add(_Needle(trace.owner, name, form.lower()))
            for number, piece in enumerate(trace.pieces):
                self._add(_Needle(trace.owner, "as planted", piece.encode().lower(), number))

    def _add(self, needle: _Needle) -> None:
        if len(needle.data) < WINDOW:
            raise ValueError(f"a form of {len(needle.data)} bytes shows nothing: {needle.form}")
        self._index[needle.data[:WINDOW]].append(needle)
        first = int.from_bytes(needle.data[:4], "little") * _FACTOR & 0xFFFF_FFFF
        self._begins[first >> (32 - _HASH_BITS)] = True

    def _candidates(self, data: bytes) -> Iterator[int]:
        """The places at which a form may begin."""
        for start in range(0, len(data), _CHUNK_BYTES):
            piece = data[start : start + _CHUNK_BYTES + 3]
            for at in np.flatnonzero(self._begins[_hashes(piece)]).tolist():
                yield start + at

    def find(self, data: bytes) -> dict[int, str]:
        """The owners of the values in ``data``, each with the form that was seen first."""
        data, index, size = data.lower(), self._index, WINDOW
        found: dict[int, str] = {}
        pieces: dict[int, set[int]] = defaultdict(set)
        for at in self._candidates(data):
            for needle in index.get(data[at : at + size], ()):
                if not data.startswith(needle.data, at):
                    continue
                if needle.piece is None:
                    found.setdefault(needle.owner, needle.form)
                else:
                    pieces[needle.owner].add(needle.piece)
        for owner, seen in pieces.items():
            if len(seen) == self._num_pieces[owner]:
                found.setdefault(owner, "as planted")
        return found


def readable(body: bytes, headers: Mapping[str, str], path: str = "") -> bytes:
    """Everything a request or an answer may be read as: raw, inflated, and its JSON unescaped.

    Args:
        body: as it came over the wire.
        headers: with lower-case names.
        path: with its query.
    """
    body = _inflated(body, headers.get("content-encoding", ""))
    told = "\n".join(f"{name}: {value}" for name, value in headers.items()).encode()
    parts: list[bytes] = [path.encode(), unquote_to_bytes(path.replace("+", " ")), told, body]
    for document in _documents(body):
        parts += [leaf.encode("utf-8", "surrogatepass") for leaf in leaves(document)]
    if b"&" in body or b"%" in body:  # a proxy may have wrapped what it passes on
        parts += [html.unescape(body.decode("utf-8", "replace")).encode(), unquote_to_bytes(body)]
    return b"\0\n".join(parts)


def leaves(value: JSON, depth: int = 0) -> Iterator[str]:
    """Strings, keys and numbers of a JSON value, and of the JSON that stands in its strings."""
    match value:
        case str():
            yield value
            if depth < _MAX_NESTED and value.lstrip()[:1] in ("{", "["):
                yield from (leaf for one in _documents(value.encode("utf-8", "surrogatepass"))
                            for leaf in leaves(one, depth + 1))  # fmt: skip
        case dict():
            for key, member in value.items():
                yield key
                yield from leaves(member, depth)
        case list():
            yield _spelled(value)
            for member in value:
                yield from leaves(member, depth)
        case bool() | None:
            return
        case int() | float():
            yield str(value)


def _spelled(row: Sequence[JSON]) -> str:
    """A row of character codes as the text that it spells."""
    codes = [one for one in row if isinstance(one, int) and 32 <= one < 0xD800]
    return "".join(map(chr, codes)) if len(codes) == len(row) else ""


def _documents(body: bytes) -> Sequence[JSON]:
    """The JSON of a body: the whole of it, or each line or event."""
    try:
        return [json.loads(body)]
    except (ValueError, RecursionError):
        pass
    found: list[JSON] = []
    for line in body.splitlines():
        line = line.removeprefix(b"data:").strip()
        if line[:1] in (b"{", b"["):
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
    return found


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, _MAX_INFLATED_BYTES)
    except zlib.error:
        return body


def _base64(data: bytes) -> Iterator[bytes]:
    """Base64 of ``data`` at each place of a group: the letters that stay, whatever is around."""
    yield from _letters(data, 3, 6, base64.b64encode)
    yield from _letters(data, 3, 6, base64.urlsafe_b64encode)


def _base32(data: bytes) -> Iterator[bytes]:
    yield from _letters(data, 5, 5, base64.b32encode)


def _letters(
    data: bytes, group: int, bits: int, encode: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """The letters, of ``bits`` bits each, that encode only bits of ``data``."""
    for before in range(group):
        whole = encode(b"\0" * before + data)
        yield whole[-(-8 * before // bits) : 8 * (before + len(data)) // bits]
