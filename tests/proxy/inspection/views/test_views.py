"""Views undo what people and attackers do to text, and never lose an offset."""

from __future__ import annotations

import base64
import re
import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.inspection.views import other_views
from proxy.inspection.views.decode import decode, opaque_run, quoted_printable
from proxy.inspection.views.fold import fold
from proxy.inspection.views.layout import _GATES, may_match, passes_luhn, unlayout
from proxy.inspection.views.view import CHANGED, Edit, View, apply, excerpt, identity

CARD = "4111111111111111"
MIXED = st.text(
    st.sampled_from("a\u0430\u200b4\uff14 =%&#;x\\u0031dotat@.\n-'\"*_`<b>\U000e0034\u00ad\u0661"),
    max_size=80,
)


def check_map(view: View, text: str) -> None:
    assert len(view.text) == len(view.starts) == len(view.ends) == len(view.marks)
    assert list(view.starts) == sorted(view.starts)
    for index, char in enumerate(view.text):
        start, end = view.starts[index], view.ends[index]
        assert 0 <= start < end <= len(text)
        if view.marks[index] == 0:
            assert text[start:end] == char


@pytest.mark.parametrize("pattern", _GATES, ids=range(len(_GATES)))
@given(st.data())
def test_no_gate_shuts_before_a_match(pattern: re.Pattern[str], data: st.DataObject) -> None:
    text = data.draw(st.from_regex(pattern) | MIXED)
    assert may_match(pattern, text) or not pattern.search(text)


def test_prose_passes_no_gate_and_half_a_surrogate_passes_all() -> None:
    prose = "In chapter 5, the harbour master counts the boats again. "
    for pattern in _GATES:
        assert not may_match(pattern, prose * 3)
        assert may_match(pattern, prose + "\ud800")


@given(st.text(max_size=200) | MIXED)
@example("\u00ad")
@example("a\u0301")
def test_no_view_loses_an_offset(text: str) -> None:
    for view in other_views(text):
        check_map(view, text)
        for start in range(len(view.text)):
            first, last = view.origin_of(start, start + 1)
            assert text[first:last] != "" or text == ""


@given(st.text(max_size=60), st.data())
def test_any_edits_keep_the_map(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edits = [
        Edit(start, end, data.draw(st.text(max_size=3)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        if end > start
    ]
    view = apply(identity(text), edits)
    check_map(view, text)
    check_map(excerpt(view, "x", margin=3), text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100))
def test_plain_text_has_no_folded_view(text: str) -> None:
    raw = identity(text)
    assert fold(raw) is raw


@pytest.mark.parametrize("category", ["Mn", "Me", "Cf"])
def test_every_invisible_character_within_a_card_number_is_undone(category: str) -> None:
    chars = [chr(c) for c in range(sys.maxunicode) if unicodedata.category(chr(c)) == category]
    tags = {chr(c) for c in range(0xE0020, 0xE007F)}  # these are letters, see below
    missed = [
        char
        for char in chars
        if char not in tags and fold(identity(f"41111111{char}11111111")).text != CARD
    ]
    assert missed == []


@pytest.mark.parametrize("char", list("\u115f\u1160\u17b4\u3164\uffa0\u2065\ufe0f\U000e0100"))
def test_every_blank_letter_is_undone(char: str) -> None:
    assert fold(identity(f"41111111{char}11111111")).text == CARD


def test_every_decimal_digit_of_unicode_becomes_ascii() -> None:
    digits = [chr(c) for c in range(sys.maxunicode) if unicodedata.category(chr(c)) == "Nd"]
    assert [c for c in digits if fold(identity(c)).text != str(unicodedata.decimal(c))] == []


def test_tags_are_read_as_the_letters_they_hide() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in CARD)
    assert fold(identity(f"hi{hidden}")).text == f"hi{CARD}"


FOLDED = {
    "full width": ("\uff11\uff12\uff20\uff41", "12@a"),
    "circled": ("\u2463\u2460\u2460", "411"),
    "negative circled": ("\u2776", "1"),
    "squared letters": ("\U0001f170\U0001f171", "AB"),
    "mathematical": ("\U0001d7d2\U0001d7cf", "41"),
    "cyrillic in a word": ("p\u0430ul@\u0430cme.com", "paul@acme.com"),
    "no-break space": ("4111\u00a01111", "4111 1111"),
    "dash": ("078\u201305\u20131120", "078-05-1120"),
    "keycap": ("4\ufe0f\u20e31", "41"),
}


@pytest.mark.parametrize(("text", "plain"), FOLDED.values(), ids=FOLDED.keys())
def test_folds(text: str, plain: str) -> None:
    assert fold(identity(text)).text == plain


@pytest.mark.parametrize(
    "text",
    ["M\u00fcller na\u00efve Zo\u00eb", "\u041c\u043e\u0441\u043a\u0432\u0430", "\u5f20\u4f1f"],
)
def test_leaves_names_in_their_own_letters_alone(text: str) -> None:
    assert fold(identity(text)).text == text


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SECRET = f"card {CARD} of Jane"
DECODED = {
    "base64": b64(SECRET),
    "base64 without padding": b64(SECRET).rstrip("="),
    "base64 for urls": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "base64 twice": b64(b64(SECRET)),
    "base64 thrice": b64(b64(b64(SECRET))),
    "base32": base64.b32encode(SECRET.encode()).decode(),
    "hex": SECRET.encode().hex(),
    "spaced hex": SECRET.encode().hex(" "),
    "hex escapes": "".join(f"\\x{byte:02x}" for byte in SECRET.encode()),
    "json escapes": "".join(f"\\u{ord(char):04x}" for char in SECRET),
    "octal escapes": "".join(f"\\{ord(char):03o}" for char in SECRET),
    "percent": "".join(f"%{byte:02X}" for byte in SECRET.encode()),
    "percent twice": "".join(f"%25{byte:02x}" for byte in SECRET.encode()),
    "entities": "".join(f"&#{ord(char)};" for char in SECRET),
    "hex entities": "".join(f"&#x{ord(char):x};" for char in SECRET),
    "hex of base64": b64(SECRET).encode().hex(),
}


@pytest.mark.parametrize("text", DECODED.values(), ids=DECODED.keys())
def test_decodes(text: str) -> None:
    assert SECRET in decode(identity(f"see {text} there"))[-1].text


def test_decodes_base64_over_several_lines() -> None:
    text = base64.encodebytes((SECRET * 5).encode()).decode()
    assert SECRET * 5 in decode(identity(f"file:\n{text}"))[-1].text.replace("\n", "")


def test_reads_quoted_printable_but_not_urls() -> None:
    quoted = "".join(f"={byte:02X}" for byte in SECRET.encode())
    assert SECRET in quoted_printable(identity(quoted)).text
    query = identity("https://example.com/?a=41&b=2")
    assert quoted_printable(query) is query


def test_long_runs_that_hold_no_text_are_opaque() -> None:
    run = base64.b64encode(bytes(range(256)) * 2).decode()
    assert opaque_run(f"key: {run}")
    assert not opaque_run("a" * 4_000)
    assert not opaque_run("https://example.com/a/b/c " * 100)


JOINED = {
    "spaced digits": ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", CARD),
    "one a line": ("\n".join(CARD), CARD),
    "dotted digits": (".".join(CARD), CARD),
    "digits in words": ("four " + "one " * 14 + "one", CARD),
    "double and triple": ("five double five one two three four five six seven", "555-123-4567"),
    "social security number": ("078 / 05 / 1120", "078-05-1120"),
    "nine words": ("zero seven eight zero five one one two zero", "078-05-1120"),
    "csv": ("4111,1111,1111,1111", CARD),
    "literals": ('"4111" + "1111" + "1111" + "1111"', f'"{CARD}"'),
    "adjacent literals": ("'4111' '1111' '1111' '1111'", f"'{CARD}'"),
    "spoken address": ("jane dot doe at acme dot com", "jane.doe@acme.com"),
    "bracketed address": ("jane.doe [at] acme [dot] com", "jane.doe@acme.com"),
    "spaced address": ("jane.doe @ acme . com", "jane.doe@acme.com"),
    "spelled name": ("J a n e D o e", "JaneDoe"),
    "emphasis": ("4111**1111**1111**1111", CARD),
    "tags": ("4111<b>1111</b>1111<i>1111", CARD),
    "file name": (f"scan_{CARD}_v2.pdf", f"scan_ {CARD} _v2.pdf"),
}


@pytest.mark.parametrize(("text", "plain"), JOINED.values(), ids=JOINED.keys())
def test_puts_together(text: str, plain: str) -> None:
    assert unlayout(identity(text)).text == plain


@pytest.mark.parametrize(
    "text",
    [
        "look at example.com",
        "from 2019 to 2020 and 2021",
        "1, 2, 3, 4, 5",
        "12.5 13.5 14.5 15.5",
        "one two three",
        "call f(1, 2, 3)",
        "the file is at https://example.com/x",
    ],
)
def test_leaves_ordinary_text_alone(text: str) -> None:
    assert not other_views(text)


def test_reads_a_value_that_was_split_then_encoded_then_disguised() -> None:
    text = b64(" ".join(CARD)).translate(str.maketrans("NA", "\uff2e\uff21"))
    assert any(CARD in view.text for view in other_views(text))


def test_views_keep_only_what_changed_and_its_surroundings() -> None:
    text = "plain words " * 500 + "4\u200b111" + " more words" * 500
    (view,) = other_views(text)
    assert len(view.text) < 200
    assert CHANGED in view.marks


HOSTILE = {
    "ampersands": "&" * 50_000,
    "percents": "%4" * 50_000,
    "dots": "a dot " * 20_000,
    "digits": "4 " * 50_000,
    "quotes": "'a' " * 20_000,
    "tags": "<b" * 40_000,
    "ones": "one " * 30_000,
    "soft breaks": "=\n" * 40_000,
    "escapes": "\\u00" * 30_000,
    "ats": "a@" * 40_000,
    "doubles": "double " * 20_000,
    "letters": "A\n" * 40_000,
    "wrapped": ("A" * 16 + "\n") * 5_000 + "!",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    for view in other_views(text):
        assert len(view.text) <= 3 * len(text) + 1_000


@given(st.integers(0, 10**15 - 1))
def test_luhn_finds_any_single_wrong_digit(body: int) -> None:
    digits = f"{body:015d}"
    (check,) = [c for c in "0123456789" if passes_luhn(digits + c)] or ["none"]
    assert check != "none" or len(set(digits)) == 1


CODINGS: dict[str, Callable[[str], str]] = {
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "percent": lambda text: "".join(f"%{ord(char):02x}" for char in text),
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
}


@given(
    st.from_regex(r"[0-9]{14,20}|[0-9a-f]{16,40}|[A-Za-z0-9]{16,40}", fullmatch=True),
    st.lists(st.sampled_from(sorted(CODINGS)), min_size=1, max_size=2),
)
@example("4275582823574162", ["hex"])
@example("4275582823574162", ["base64"])
@example("4275582823574162", ["percent", "base64"])
def test_what_looks_encoded_itself_is_read_before_it_is_decoded_on(
    secret: str, codings: list[str]
) -> None:
    text = secret
    for coding in codings:
        text = CODINGS[coding](text)
    views = other_views(f"see {text} there")
    assert any(secret in view.text for view in views) or secret in text


def test_a_layout_is_undone_where_decoding_reads_something_else_in_it() -> None:
    spaced = "42 75 58 28 23 57 41 62"  # as hex: BuX(#WAb
    assert any("4275582823574162" in view.text for view in other_views(f"number {spaced}"))
