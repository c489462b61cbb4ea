"""What people and attackers do to a value: each form is found, or cannot be read and says so."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from collections.abc import Callable

import pytest

from proxy.inspection.inline import inline_inspector
from proxy.types import JSON, Inspection, JSONObject

pytestmark = pytest.mark.slow

CARD = "4111111111111111"
SSN = "536-22-8726"
MAIL = "jane.doe@example-mail.com"
PHONE = "+1 212-555-0187"
WORDS = dict(
    zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True)
)


@functools.cache
def inspect() -> Callable[[JSONObject], Inspection]:
    return inline_inspector(("en",))


def found(*contents: JSON, **more: JSON) -> set[str]:
    messages = [{"role": "user", "content": content} for content in contents]
    inspection = inspect()({"model": "ringfence", "messages": messages, **more})
    sure = {finding.entity for finding in inspection.findings if finding.score >= 0.4}
    return sure | {entry.reason.value for entry in inspection.unscannable}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def each(text: str, form: str) -> str:
    return "".join(form.format(ord(char)) for char in text)


def shifted(text: str, offset: int) -> str:
    return "".join(chr(ord(char) + offset) if "!" <= char <= "~" else char for char in text)


def between(text: str, mark: str) -> str:
    return mark.join(text)


def styled(text: str, first: int) -> str:
    return "".join(chr(first + int(char)) if char.isdigit() else char for char in text)


FORMS: dict[str, Callable[[str], str]] = {
    "zero width space": lambda t: between(t, "\u200b"),
    "zero width joiner": lambda t: between(t, "\u200d"),
    "word joiner": lambda t: between(t, "\u2060"),
    "soft hyphen": lambda t: between(t, "\u00ad"),
    "bidi marks": lambda t: between(t, "\u202e"),
    "variation selectors": lambda t: between(t, "\ufe0f"),
    "combining marks": lambda t: between(t, "\u0336"),
    "hangul filler": lambda t: between(t, "\u3164"),
    "byte order marks": lambda t: between(t, "\ufeff"),
    "full width": lambda t: shifted(t, 0xFEE0),
    "tags": lambda t: "hi" + shifted(t, 0xE0000),
    "base64": b64,
    "base64 unpadded": lambda t: b64(f"it is {t}").rstrip("="),
    "base64 url": lambda t: base64.urlsafe_b64encode(f"it is {t}?>".encode()).decode(),
    "base64 twice": lambda t: b64(b64(t)),
    "gzip in base64": lambda t: base64.b64encode(gzip.compress(t.encode())).decode(),
    "base32": lambda t: base64.b32encode(t.encode()).decode(),
    "hex": lambda t: t.encode().hex(),
    "spaced hex": lambda t: t.encode().hex(" "),
    "percent": lambda t: each(t, "%{:02X}"),
    "percent twice": lambda t: each(t, "%25{:02x}"),
    "entities": lambda t: each(t, "&#{};"),
    "hex entities": lambda t: each(t, "&#x{:x};"),
    "json escapes": lambda t: each(t, "\\u{:04x}"),
    "byte escapes": lambda t: each(t, "\\x{:02x}"),
    "quoted printable": lambda t: each(t, "={:02X}"),
    "soft line breaks": lambda t: each(t, "={:02X}=\n"),
    "code fence": lambda t: f"```\nvalue = '{t}'\n```",
    "table": lambda t: f"| a | b |\n|---|---|\n| x | {t} |",
    "diff": lambda t: f"-old\n+{t}\n",
    "json": lambda t: json.dumps({"a": [{"b": t}]}),
}
VALUES = {"CREDIT_CARD": CARD, "EMAIL_ADDRESS": MAIL}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("entity", VALUES)
def test_finds_a_value_in_every_form(entity: str, form: str) -> None:
    assert entity in found(f"Please use {FORMS[form](VALUES[entity])} now.")


DIGITS = {
    "spaced": between(CARD, " "),
    "dashed": between(CARD, "-"),
    "dotted": between(CARD, "."),
    "underscored": between(CARD, "_"),
    "one a line": between(CARD, "\n"),
    "in pairs": " ".join(CARD[i : i + 2] for i in range(0, 16, 2)),
    "in words": " ".join(WORDS[digit] for digit in CARD),
    "words and digits": " ".join(WORDS[d] if i % 2 else d for i, d in enumerate(CARD)),
    "csv": "4111,1111,1111,1111",
    "pipes": "4111|1111|1111|1111",
    "lines of four": "4111\n1111\n1111\n1111",
    "literals": '"4111" + "1111" + "1111" + "1111"',
    "list of literals": '["4111", "1111", "1111", "1111"]',
    "bold": "4111**1111**1111**1111",
    "html": "4111<b>1111</b>1111<i>1111</i>",
    "comment": "4111<!-- x -->1111<!-- y -->11111111",
    "file name": f"scan_{CARD}_v2.pdf",
    "glued": f"card{CARD}",
    "url query": f"https://example.com/pay?card={CARD}&x=1",
    "arabic": styled(CARD, 0x660),
    "devanagari": styled(CARD, 0x966),
    "mathematical": styled(CARD, 0x1D7CE),
    "circled": "".join(chr(0x245F + int(digit)) for digit in CARD),
    "keycaps": between(CARD, "\ufe0f\u20e3") + "\ufe0f\u20e3",
    "nested": b64(between(CARD, " ")),
    "mixed": b64("\u200b".join(each(CARD, "%{:02X}"))),
}


@pytest.mark.parametrize("text", DIGITS.values(), ids=DIGITS.keys())
def test_finds_a_card_in_every_layout(text: str) -> None:
    assert "CREDIT_CARD" in found(f"Please use {text} now.")


ADDRESSES = {
    "spoken": "jane dot doe at example dot com",
    "bracketed": "jane.doe [at] example [dot] com",
    "rounded": "jane.doe(at)example(dot)com",
    "spaced": "jane.doe @ example . com",
    "spelled": "j a n e . d o e @ e x a m p l e . c o m",
    "cyrillic": "j\u0430ne.d\u043ee@ex\u0430mple.com",
    "greek": "jane.d\u03bfe@example.c\u03bfm",
    "bold": "jane.**doe**@example.com",
    "literals": "'jane.' + 'doe@' + 'example.com'",
    "ideographic stop": "jane.doe@example\u3002com",
}


@pytest.mark.parametrize("text", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_finds_an_address_in_every_layout(text: str) -> None:
    assert "EMAIL_ADDRESS" in found(f"You can write to {text} today.")


OTHERS = {
    "number spaced": ("US_SSN", "My ssn is 5 3 6 2 2 8 7 2 6."),
    "number in words": ("US_SSN", "My ssn is five three six two two eight seven two six."),
    "number slashed": ("US_SSN", "My ssn is 536 / 22 / 8726."),
    "number encoded": ("US_SSN", f"The value: {b64('my ssn is ' + SSN)}"),
    "phone in words": ("PHONE_NUMBER", "call two one two five five five zero one eight seven"),
    "phone full width": ("PHONE_NUMBER", f"call {shifted(PHONE, 0xFEE0)}"),
    "name encoded": ("PERSON", b64("My name is Margaret Thornbury and I live in Boston.")),
    "name with invisible letters": ("PERSON", "My name is Mar\u200bgaret Thorn\u200bbury, hello."),
}


@pytest.mark.parametrize(("entity", "text"), OTHERS.values(), ids=OTHERS.keys())
def test_finds_other_values(entity: str, text: str) -> None:
    assert entity in found(text)


SPLIT: dict[str, tuple[list[JSON], str]] = {
    "messages": (["my card: 41111111", "11111111 thanks"], "CREDIT_CARD"),
    "four messages": (["4111", "1111", "1111", "1111"], "CREDIT_CARD"),
    "parts": (
        [[{"type": "text", "text": "jane.doe@exam"}, {"type": "text", "text": "ple-mail.com ok"}]],
        "EMAIL_ADDRESS",
    ),
    "words over parts": (
        [
            [
                {"type": "text", "text": "four one one one one one one one"},
                {"type": "text", "text": "one one one one one one one one"},
            ]
        ],
        "CREDIT_CARD",
    ),
}


@pytest.mark.parametrize(("contents", "entity"), SPLIT.values(), ids=SPLIT.keys())
def test_finds_a_value_that_was_split(contents: list[JSON], entity: str) -> None:
    assert entity in found(*contents)


PLACES: dict[str, dict[str, JSON]] = {
    "number": {"x": 4111111111111111},
    "list of numbers": {"x": [4111, 1111, 1111, 1111]},
    "list of digits": {"x": [int(digit) for digit in CARD]},
    "list of strings": {"x": ["4111", "1111", "1111", "1111"]},
    "key": {"x": {CARD: 1}},
    "logit bias": {"logit_bias": {CARD: 1}},
    "json in json": {"x": json.dumps({"a": json.dumps({"b": CARD})})},
    "split over a list": {"stop": ["41111111", "11111111"]},
}


@pytest.mark.parametrize("more", PLACES.values(), ids=PLACES.keys())
def test_finds_a_card_in_every_place(more: dict[str, JSON]) -> None:
    assert "CREDIT_CARD" in found("Hello there.", **more)


def test_a_key_tells_what_a_bare_number_is() -> None:
    assert "US_SSN" in found("Hello there.", x={"social_security_number": 536228726})


UNREADABLE = {
    "encrypted": base64.b64encode(bytes((i * 73 + i * i) % 256 for i in range(600))).decode(),
    "french": "Je m'appelle Margaux et j'habite avec ma famille dans une petite ville.",
    "russian": "\u041c\u0435\u043d\u044f \u0437\u043e\u0432\u0443\u0442 \u0410\u043d\u043d\u0430",
    "chinese": "\u6211\u7684\u540d\u5b57\u662f\u5f20\u4f1f\u4f4f\u5728\u5317\u4eac",
    "arabic": "\u0627\u0633\u0645\u064a \u0641\u0627\u0637\u0645\u0629",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_says_so_where_it_cannot_read(text: str) -> None:
    assert found(text) & {"undecodable", "language"}


@pytest.mark.parametrize(
    "text",
    [
        "Name the longest river in Europe.",
        "Count from 1 to 10, and back again.",
        "Convert 0xDEADBEEF to decimal, please.",
        "What is 12 + 30 + 45?",
        "Look at the docs and tell me what a dot product is.",
    ],
)
def test_leaves_a_harmless_question_alone(text: str) -> None:
    assert found(text) - {"DATE_TIME", "LOCATION", "UNLIKELY_PERSON"} == set()
