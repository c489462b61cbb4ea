"""What people and attackers do to a value: each form is found, or cannot be read and says so."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable

import pytest

from proxy.inspection.inline import inline_inspector
from proxy.policy.disguises import FORMS
from proxy.types import JSON, Inspection, JSONObject
from tests.proxy.inspection.files.builders import (
    a_body_part,
    a_docx,
    a_pdf,
    an_xlsx,
    shown,
    with_part,
)

pytestmark = pytest.mark.slow

CARD = "4111111111111111"
SSN = "536-22-8726"
MAIL = "jane.doe@example-mail.com"
PHONE = "+1 212-555-0187"
RUN = "<w:r><w:t>{}</w:t></w:r>"
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
    "groups underscored": "4111_1111_1111_1111",
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
    "wrapped after two groups": "4012 8888\n8888 1881",
    "wrapped after three groups": "4012 8888 8888\n1881",
    "wrapped after one group": "4012\n8888 8888 1881",
    "wrapped at a dash": "4012-8888-\n8888-1881",
    "wrapped in a quoted reply": "> 4012 8888\n> 8888 1881",
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
    "a letter a line": between(MAIL, "\n"),
    "bytes in variation selectors": "".join(chr(0xE0100 + ord(char) - 16) for char in MAIL),
    "character codes": ", ".join(str(ord(char)) for char in MAIL),
    "character codes in a list": str(list(MAIL.encode())),
    "code points": " ".join(f"U+{ord(char):04X}" for char in MAIL),
    "bits": " ".join(f"{ord(char):08b}" for char in MAIL),
    "bits in one row": "".join(f"{ord(char):08b}" for char in MAIL),
    "base64 of wide characters": base64.b64encode(MAIL.encode("utf-16-le")).decode(),
    "base64 of wide characters, the other way": base64.b64encode(MAIL.encode("utf-16-be")).decode(),
    "hex of wide characters": MAIL.encode("utf-16-le").hex(),
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


#: Checksums and prefixes are those of real ones; the rest is made up.
GLUED = {
    "account behind a word": ("IBAN_CODE", "Pay ibanDE39271212966274133722 today."),
    "account behind capitals": ("IBAN_CODE", "Pay IBANDE39 2712 1296 6274 1337 22 today."),
    "account before a word": ("IBAN_CODE", "Pay DE39271212966274133722please today."),
    "cloud key behind a word": ("CLOUD_CREDENTIAL", "Use hiAKIAXZPMUM3R7QCIDXC7 now."),
    "cloud key before a word": ("CLOUD_CREDENTIAL", "Use AKIAXZPMUM3R7QCIDXC7x now."),
    "token behind a word": (
        "ACCESS_TOKEN",
        f"Use hi{'ghp_'}Vtzx9jhhK5eIJ7wsHh3gcsMazZWlWKkBQj0A now.",
    ),
    "token behind a digit": ("ACCESS_TOKEN", "Use 7glpat-Vtzx9jhhK5eIJ7wsHh3g now."),
    "key behind a word": ("API_KEY", "Use keysk-proj-Vtzx9jhhK5eIJ7wsHh3gcsMazZWlWKkB now."),
    "account in tags": ("IBAN_CODE", f"Use {FORMS['tags']('DE39271212966274133722')} now."),
    "cloud key in tags": ("CLOUD_CREDENTIAL", f"Use {FORMS['tags']('AKIAXZPMUM3R7QCIDXC7')} now."),
}


@pytest.mark.parametrize(("entity", "text"), GLUED.values(), ids=GLUED.keys())
def test_finds_a_code_that_is_glued_to_a_word(entity: str, text: str) -> None:
    assert entity in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sort the task-management-in-the-cloud-age list and the disk-encryption-of-a-laptop one.",
        "Years are 4012 4013\n4014 4015 in the story, and 2021 2022\n2023 2024 here.",
        "The part is XXAB12CDEF34GH56IJ78KL in the catalogue.",
        "An identifier like MAX_SIZE_OF_LIST_2024_ENTRIES is a constant.",
    ],
)
def test_takes_no_word_for_a_code(text: str) -> None:
    assert not found(text) & {
        "CREDIT_CARD",
        "IBAN_CODE",
        "API_KEY",
        "ACCESS_TOKEN",
        "CLOUD_CREDENTIAL",
    }


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


NAMES = ["Jane_Doe", "Jane.Doe", "Maria_Keller", "Miller_Frank"]


@pytest.mark.parametrize("text", NAMES)
def test_finds_a_name_whose_words_a_sign_joins(text: str) -> None:
    assert "PERSON" in found(f"The ticket was opened by {text} today.")


@pytest.mark.parametrize("name", [*NAMES, "jane_doe", "jane.doe", "JaneDoe", "doe_jane", "jane"])
def test_finds_the_name_of_who_takes_part(name: str) -> None:
    message: JSON = {"role": "user", "name": name, "content": "hello"}
    inspection = inspect()({"model": "ringfence", "messages": [message]})
    assert "PERSON" in {one.entity for one in inspection.findings if one.score >= 0.4}


@pytest.mark.parametrize(
    "name",
    ["user_proxy", "Admin", "Researcher", "critic-2", "planner", "get_weather", "support.bot"],
)
def test_takes_no_part_for_a_person(name: str) -> None:
    message: JSON = {"role": "user", "name": name, "content": "hello"}
    inspection = inspect()({"model": "ringfence", "messages": [message]})
    assert "PERSON" not in {one.entity for one in inspection.findings if one.score >= 0.4}


@pytest.mark.parametrize(
    "text",
    [
        "Content_Type and Max_Value are set in max_price and Grace_Period.",
        "The scores were 45, 67, 89, 100, 52, 71, 66, 98, 93, 77, 84, 91 and 60 points.",
        "The mask is 11111111 11111111 11111111 00000000 11110000 10101010 11111111 10000000.",
        "Pick one:\na\nb\nc\nd\ne\nf",
        "The kanji \u845b\U000e0100 has another form, \u845b\U000e0101, on signs.",
        f"The digest is {'9f86d081884c7d65' * 8}.",
    ],
)
def test_takes_no_code_for_a_secret(text: str) -> None:
    assert found(text) - {"DATE_TIME", "LOCATION", "UNLIKELY_PERSON"} == set()


def test_a_long_row_of_hex_digits_that_is_no_text_is_not_read() -> None:
    data = bytes(range(128, 256)) * 3
    assert "undecodable" in found(f"Here is the file: {data.hex()}")
    assert "undecodable" not in found(f"Here is a text: {(b'a long plain text ' * 30).hex()}")


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


def file(data: bytes, kind: str) -> JSON:
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return [{"type": "file", "file": {"filename": "a", "file_data": url}}]


OFFICE = "application/vnd.openxmlformats-officedocument"
DOCX, XLSX = f"{OFFICE}.wordprocessingml.document", f"{OFFICE}.spreadsheetml.sheet"
HIDDEN = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>xyz</w:t></w:r>"
BACKWARDS = tuple(enumerate(CARD))[::-1]
FILES: dict[str, tuple[str, JSON]] = {
    "text": ("CREDIT_CARD", file(CARD.encode(), "text/plain")),
    "text without a label": ("CREDIT_CARD", [{"file_data": b64(f"it is {CARD}")}]),
    "text in base64 in a file": ("CREDIT_CARD", file(b64(CARD).encode(), "text/plain")),
    "zero width in a file": ("CREDIT_CARD", file("\u200b".join(CARD).encode(), "text/plain")),
    "tags between": (
        "CREDIT_CARD", file(b"<p>4111<b>1111</b><!-- x -->1111<i>1111</i></p>", "text/html"),
    ),
    "JSON in JSON in a file": (
        "CREDIT_CARD", file(json.dumps({"a": json.dumps([CARD])}).encode(), "application/json"),
    ),
    "a bare number under its heading": (
        "US_SSN", file(b"name,ssn\nx,536228726\n", "text/csv"),
    ),
    "a bare number in a sheet": ("US_SSN", file(an_xlsx(["ssn"], [536228726]), XLSX)),
    "cells": ("CREDIT_CARD", file(an_xlsx(["x"], ["4111", "1111", "1111", "1111"]), XLSX)),
    "one digit a run": (
        "CREDIT_CARD", file(a_body_part("<w:p>" + "".join(map(RUN.format, CARD)) + "</w:p>"), DOCX),
    ),
    "hidden text between": (
        "CREDIT_CARD",
        file(a_body_part("<w:p>" + HIDDEN.join(map(RUN.format, CARD)) + "</w:p>"), DOCX),
    ),
    "one digit a paragraph": ("CREDIT_CARD", file(a_docx(*CARD), DOCX)),
    "words in a document": ("CREDIT_CARD", file(a_docx(" ".join(WORDS[d] for d in CARD)), DOCX)),
    "name of the author": (
        "PERSON",
        file(
            with_part(
                a_docx("Hello."),
                "docProps/core.xml",
                "<x><creator>Margaret Thornbury</creator></x>",
            ),
            DOCX,
        ),
    ),
    "PDF": ("CREDIT_CARD", file(a_pdf(shown(f"Pay {CARD}")), "application/pdf")),
    "PDF, drawn backwards": (
        "CREDIT_CARD",
        file(
            a_pdf("".join(f"BT /F 9 Tf {5 * n} 7 Td ({d}) Tj ET " for n, d in BACKWARDS)),
            "application/pdf",
        ),
    ),
    "PDF, a mail address in its title": (
        "EMAIL_ADDRESS",
        file(a_pdf(shown("Hi"), f"<</Title({MAIL})>>", trailer="/Info 6 0 R"), "application/pdf"),
    ),
    "PDF that is called text": ("file", file(a_pdf(shown(CARD)), "text/plain")),
    "document behind a PDF": ("file", file(a_pdf() + a_docx(CARD), "application/pdf")),
    "loose base64": ("undecodable", [{"file_data": f"data:text/plain;base64,{b64(CARD)[:-2]}\n"}]),
    "archive": ("file", file(b"PK\x03\x04" + bytes(40), "application/zip")),
}  # fmt: skip


@pytest.mark.parametrize(("entity", "content"), FILES.values(), ids=FILES.keys())
def test_finds_a_value_in_every_kind_of_file(entity: str, content: JSON) -> None:
    assert entity in found(content)


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
