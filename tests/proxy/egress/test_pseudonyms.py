"""Made-up values have the form of a kind and belong to nobody, where a range is kept for that."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys

import pytest
from stdnum import iban, luhn

from proxy.egress.placeholders import Vault
from proxy.egress.pseudonyms import FIXED_WORDS, Draw, _first_names, _last_names, made_up
from proxy.types import MaskWith
from tests.factories import a_body
from tests.proxy.egress.masking import back, content, inspect, masked

PSEUDONYM = MaskWith.PSEUDONYM
DOUBLE = "[A-Z][a-z]+-[A-Z][a-z]+"
FORMS = [
    ("PERSON", "Jane Doe", f"{DOUBLE} {DOUBLE}"),
    ("PERSON", "Jane", DOUBLE),
    ("EMAIL_ADDRESS", "a@b.example", r"[a-z]+\.[a-z]+-[a-z]+@example\.(com|net|org)"),
    ("PHONE_NUMBER", "+49 151 23456789", r"\+1 [2-9]\d\d-555-01\d\d"),
    ("LOCATION", "Berlin", f"[A-Z][a-z]+ {DOUBLE}"),
    ("STREET_ADDRESS", "1 High St", rf"\d{{3}} {DOUBLE} Road"),
    ("ORGANIZATION", "Acme", f"{DOUBLE} Group"),
    ("IBAN_CODE", "GB82 WEST 1234 5698 7654 32", r"GB\d\d [A-Z]{4} \d{4} \d{4} \d{4} \d\d"),
    ("IBAN_CODE", "DE89370400440532013000", r"DE\d{20}"),
    ("CREDIT_CARD", "4111-1111-1111-1111", r"9999-\d{4}-\d{4}-\d{4}"),
    ("IP_ADDRESS", "10.1.2.3", r"198\.1[89]\.\d+\.\d+"),
    ("IP_ADDRESS", "fe80::1", r"2001:db8(:[0-9a-f]{4}){6}"),
    ("DATE_OF_BIRTH", "1984-12-31", r"19\d\d-(0\d|1[0-2])-(0\d|1[0-2])"),
    ("DATE_OF_BIRTH", "31.12.1984", r"(0\d|1[0-2])\.(0\d|1[0-2])\.19\d\d"),
]


@pytest.mark.parametrize(("entity", "value", "form"), FORMS)
def test_has_the_form_of_its_kind(entity: str, value: str, form: str) -> None:
    for number in range(200):
        token = Vault(str(number)).token_for(entity, value, PSEUDONYM)
        assert re.fullmatch(form, token)
        if entity == "CREDIT_CARD":
            assert luhn.is_valid(token.replace("-", ""))
        if entity == "IBAN_CODE":
            assert iban.is_valid(token, check_country=False)
        if entity == "IP_ADDRESS":
            assert ipaddress.ip_address(token).is_private


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("API_KEY", "sk-1234567890"),
        ("CREDIT_CARD", "4111/1111"),
        ("IBAN_CODE", "nonsense"),
        ("DATE_OF_BIRTH", "31st of May 1984"),
    ],
)
def test_what_has_no_form_gets_a_placeholder(entity: str, value: str) -> None:
    assert made_up(entity, value, Draw(b"x" * 64)) is None
    assert re.fullmatch(rf"<{entity}_\w{{6}}>", Vault("").token_for(entity, value, PSEUDONYM))


def test_two_values_never_have_one_nor_share_a_word() -> None:
    vault = Vault("")
    tokens = [vault.token_for("PERSON", f"Jane{n} Doe{n}", PSEUDONYM) for n in range(100)]
    words = [word for token in tokens if "<" not in token for word in re.findall(r"\w+", token)]
    assert len(set(tokens)) == len(tokens)
    assert len(set(words)) == len(words) > 200
    phones = [vault.token_for("PHONE_NUMBER", f"+4915123{n}", PSEUDONYM) for n in range(3000)]
    assert len(set(phones)) == len(phones)


def test_no_name_is_a_word_that_pseudonyms_may_share() -> None:
    names = {name.lower() for name in (*_first_names(), *_last_names())}
    assert len(names) > 1000
    assert names.isdisjoint(FIXED_WORDS)


def test_holds_no_word_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Vault("")
    token = first.token_for("PERSON", "Jane Doe", PSEUDONYM)
    for given in (token, token.upper(), token.split("-")[0], token[:4]):
        second = Vault(f"Ask {given}, please.")
        monkeypatch.setattr(second, "_key", first._key)  # the same draws
        other = second.token_for("PERSON", "Jane Doe", PSEUDONYM)
        assert given.lower() not in other.lower()


def test_two_decisions_share_none() -> None:
    assert len({Vault("").token_for("PERSON", "Jane Doe", PSEUDONYM) for _ in range(20)}) == 20


def test_a_first_name_alone_is_that_of_its_person() -> None:
    text = "Jane Doe called. Jane is in; Doe is not."
    result = masked(a_body(text), {"Jane Doe": "PERSON"}, by=PSEUDONYM)
    assert result is not None
    first, last = next(iter(result.vault)).token.split()
    assert content(result.body) == f"{first} {last} called. {first} is in; {last} is not."
    assert back(result, content(result.body)) == text


def test_next_to_letters_a_placeholder_stands_instead() -> None:
    vault = Vault("")
    assert vault.token_for("PERSON", "Jane", PSEUDONYM, glued=True).startswith("<PERSON_")
    assert not vault.token_for("PERSON", "Jane", PSEUDONYM).startswith("<")


def test_only_what_a_pseudonym_covers_is_left_out_of_the_second_inspection() -> None:
    result = masked(a_body("Jane Doe met him"), {"Jane Doe": "PERSON"}, by=PSEUDONYM)
    assert result is not None
    token = content(result.body).split(" met")[0]
    again = inspect(result.body, {token: "PERSON", f"{token} met": "PERSON", "him": "PERSON"})
    text = content(result.body)
    left = result.without_placeholders(again).findings
    assert {text[f.start : f.end] for f in left} == {f"{token} met", "him"}


def test_the_lists_of_names_open_no_connection() -> None:
    code = (
        "import json, sys; before = set(sys.modules)\n"
        "from faker.providers.person.en_US import Provider\n"
        "names = ('socket', 'ssl', 'http.client', 'urllib.request')\n"
        "print(json.dumps([n for n in names if n in set(sys.modules) - before]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []
