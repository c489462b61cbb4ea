"""Undoes encodings: entities, percent, escapes, base64, base32, hex, compressed base64; nested."""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from typing import Final

from proxy.inspection.views.view import View, apply, edits_by, substitute

#: Rounds of decoding: an encoding within an encoding is read, and one more.
MAX_ROUNDS: Final = 3

#: A decoded run is at most this long; a compressed one that is longer is not read.
MAX_DECODED_CHARS: Final = 65_536

#: A run in base64 letters this long that is no text is something we cannot read; in hex digits,
#: one that is longer than a signature of 2,048 bits.
MIN_OPAQUE_CHARS: Final = 256
MIN_OPAQUE_DIGITS: Final = 514

_ENTITY: Final = re.compile(
    r"(?:&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?)+"
)
_PERCENT: Final = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_ESCAPE: Final = re.compile(
    r"(?:\\{1,4}(?:u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}"
    r"|[0-3][0-7]{2}))+"
)
_ONE_ESCAPE: Final = re.compile(r"\\+(?:u\{(?P<a>\w+)\}|[uUx](?P<b>[0-9a-fA-F]+)|(?P<c>[0-7]{3}))")
_QUOTED_PRINTABLE: Final = re.compile(r"(?:=[0-9A-F]{2}|=\r?\n)+")
_WRAPPED: Final = re.compile(
    r"(?:^[A-Za-z0-9+/_-]{16,128}[ \t]*\r?\n)+[A-Za-z0-9+/_-]{2,128}={0,2}", re.M
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_BASE32: Final = re.compile(r"\b[A-Z2-7]{16,}={0,6}")
_HEX: Final = re.compile(r"(?:\b0x)?(?:[0-9a-fA-F]{2}){7,}\b")
_SPACED_HEX: Final = re.compile(
    r"\b(?:0x)?[0-9a-fA-F]{2}(?:[ :,-]{1,2}(?:0x)?[0-9a-fA-F]{2}){6,}\b"
)
_CODES: Final = re.compile(r"(?<![\w.])\d{2,3}(?:[ ,;]{1,2}\d{2,3}){7,}(?![\w.]\w)")
_CODE_POINTS: Final = re.compile(r"\bU\+[0-9a-fA-F]{4,6}(?:[ ,;]{0,2}U\+[0-9a-fA-F]{4,6}){6,}\b")
_BITS: Final = re.compile(r"\b[01]{8}(?:[ ,]?[01]{8}){7,}\b")
_OPAQUE_HEX: Final = re.compile(rf"\b[0-9a-fA-F]{{{MIN_OPAQUE_DIGITS},}}\b")

#: So much of a text that numbers spell is letters, digits and the signs of addresses; of any
#: numbers between 32 and 126, two thirds.
_PLAIN_SHARE: Final = 0.9
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 @._,:/-]")


def decode(view: View) -> tuple[View, ...]:
    """The stages of undoing every readable encoding, from the inside of the inside.

    The last stage has all of them undone. One before it is there where a later step read on in
    what an earlier one had made: that may have been the secret already, since one card number in
    thirty, taken for hex, spells a printable text.

    Returns:
        No stage where nothing is encoded.
    """
    given = view
    stages: list[View] = []
    for _ in range(MAX_ROUNDS):
        before = view
        for pattern, replace in _STEPS:
            edits = edits_by(view, pattern, replace)
            if not edits:
                continue
            if view is not given and any(view.touches_change(e.start, e.end) for e in edits):
                stages.append(view)
            view = apply(view, edits)
            if len(view.text) > len(before.text) + MAX_DECODED_CHARS:
                return _without(given, (*stages, before))
        if view is before:
            break
    return _without(given, (*stages, view))


def _without(given: View, stages: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(stage for stage in stages if stage is not given)


def quoted_printable(view: View) -> View:
    """Quoted-printable undone; apart from `decode`, since it spoils URL queries."""
    if len(re.findall(r"=[0-9A-F]{2}|=\r?\n", view.text)) < 3:
        return view
    return substitute(view, _QUOTED_PRINTABLE, lambda m: _unquote(m.group()))


def opaque_run(text: str) -> re.Match[str] | None:
    """The first long run in base64 or hex that holds no text: something that cannot be read."""
    for run in re.finditer(rf"[A-Za-z0-9+/_-]{{{MIN_OPAQUE_CHARS},}}={{0,2}}", text):
        kinds = sum(1 for kind in ("[a-z]", "[A-Z]", "[0-9]") if re.search(kind, run.group()))
        if kinds == 3 and len(set(run.group())) > 24:
            return run
    rows = (row for row in _OPAQUE_HEX.finditer(text) if len(set(row.group())) >= 12)
    return next((row for row in rows if _hex(row) is None), None)


def _unquote(text: str) -> str | None:
    data = bytes.fromhex("".join(re.findall(r"=([0-9A-F]{2})", text)))
    return _as_text(data, strict=False) if data else ""


def _percent(match: re.Match[str]) -> str | None:
    return _as_text(bytes.fromhex(match.group().replace("%", "")), strict=False)


def _entities(match: re.Match[str]) -> str | None:
    return html.unescape(match.group())


def _escapes(match: re.Match[str]) -> str | None:
    codes = []
    for one in _ONE_ESCAPE.finditer(match.group()):
        octal = one["c"]
        codes.append(int(octal, 8) if octal else int(one["a"] or one["b"], 16))
    if any(code > 0x10FFFF for code in codes):
        return None
    text = "".join(map(chr, codes))
    if any(0xD800 <= code <= 0xDFFF for code in codes):  # escaped pairs of surrogates
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if all(code < 0x100 for code in codes):  # bytes rather than characters
        return _as_text(bytes(codes), strict=False) or text
    return text


def _base64(match: re.Match[str]) -> str | None:
    run = match.group()
    if (whole := _from_base64(run)) is not None:
        return whole
    pieces = re.split(r"([/_+-])", run)
    if len(pieces) == 1:
        return None
    decoded = [_from_base64(piece) if len(piece) >= 12 else None for piece in pieces]
    if not any(decoded):
        return None
    return "".join(text or piece for text, piece in zip(decoded, pieces, strict=True))


def _from_base64(run: str) -> str | None:
    letters = re.sub(r"[\s=]", "", run).translate(str.maketrans("-_", "+/"))
    for drop in (0, 1):  # a run that was cut by one letter still shows most of its text
        body = letters[: len(letters) - drop]
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        return _as_text(_inflate(data))
    return None


def _inflate(data: bytes) -> bytes:
    if data[:2] not in (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        return data
    try:
        return zlib.decompressobj(wbits=47).decompress(data, MAX_DECODED_CHARS)
    except zlib.error:
        return data


def _base32(match: re.Match[str]) -> str | None:
    letters = match.group().rstrip("=")
    try:
        return _as_text(base64.b32decode(letters + "=" * (-len(letters) % 8)))
    except (binascii.Error, ValueError):
        return None


def _hex(match: re.Match[str]) -> str | None:
    digits = re.sub(r"0x|[^0-9a-fA-F]", "", match.group())
    return _as_text(bytes.fromhex(digits))


def _codes(match: re.Match[str]) -> str | None:
    return _spelled(int(code) for code in re.findall(r"\d+", match.group()))


def _code_points(match: re.Match[str]) -> str | None:
    codes = [int(code, 16) for code in re.findall(r"\+(\w+)", match.group())]
    return None if max(codes) > 0x10FFFF else "".join(map(chr, codes))


def _bits(match: re.Match[str]) -> str | None:
    return _spelled(int(byte, 2) for byte in re.findall(r"[01]{8}", match.group()))


def _spelled(codes: Iterable[int]) -> str | None:
    """The text that codes of ASCII spell, or None where they may be any numbers."""
    text = "".join(map(chr, codes))
    if any(not " " <= char <= "~" for char in text):
        return None
    return text if len(_NOT_PLAIN.findall(text)) <= (1 - _PLAIN_SHARE) * len(text) else None


def _as_text(data: bytes, *, strict: bool = True) -> str | None:
    """Bytes as text, or None when they are none. ``strict``: nearly all of it is printable."""
    for encoding in ("utf-8", "utf-16"):
        if encoding == "utf-16" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        printable = sum(char.isprintable() or _is_mark(char) for char in text)
        plain = sum(" " <= char <= "~" for char in text)
        enough = plain if len(text) < 24 else printable
        if not strict or (text and enough >= 0.95 * len(text)):
            return text
    return _as_wide_text(data)


def _as_wide_text(data: bytes) -> str | None:
    """ASCII in two bytes a character (UTF-16 without a mark), as PowerShell encodes commands."""
    if len(data) < 8 or len(data) % 2:
        return None
    for zeros, letters in ((data[1::2], data[::2]), (data[::2], data[1::2])):
        if not any(zeros) and all(32 <= letter <= 126 or letter in b"\t\r\n" for letter in letters):
            return letters.decode("ascii")
    return None


def _is_mark(char: str) -> bool:
    """White space, and the invisible characters that `fold` takes out."""
    return char in "\t\r\n" or unicodedata.category(char) in ("Cf", "Mn")


_STEPS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]], ...]] = (
    (_ENTITY, _entities),
    (_PERCENT, _percent),
    (_ESCAPE, _escapes),
    (_BITS, _bits),
    (_CODES, _codes),
    (_CODE_POINTS, _code_points),
    (_SPACED_HEX, _hex),
    (_HEX, _hex),
    (_BASE32, _base32),
    (_WRAPPED, lambda match: _from_base64(match.group())),
    (_BASE64, _base64),
)
