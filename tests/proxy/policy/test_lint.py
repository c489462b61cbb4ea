"""Lint names every mistake of a file at once, with its place and its mend."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from proxy.policy.lint import examine, lint
from proxy.policy.problems import Severity
from tests.proxy.policy.policies import HEAD, write

TODAY = date(2026, 11, 24)

TEN_MISTAKES = """version: 1
pack: support
revision: one
owner: sec@example.com
defualt: allow
destinations:
  - id: eu
    provider: openai
    base_url: http://eu.example/v1
    models: [m]
    region: eu
    transfer: {recipient: E, country: Ireland, basis: intra_eea, retention: zero}
rules:
  - id: people
    why: GDPR Art. 4(1)
    when: {entities: [PERSONS]}
    action: local_only
  - id: cards
    why: PCI DSS
    when: {entities: [CREDIT_CARD], min_score: 50}
    action: forbid
  - id: money
    why: GDPR Art. 4(1)
    when: {categories: [financial]}
    action: block
  - id: accounts
    why: GDPR Art. 4(1)
    when: {entities: [IBAN_CODE], min_score: 0.5}
    action: block
tests:
  - {name: no input, expect: {action: block}}
  - name: an account
    findings: [{entity: IBAN_CODE, score: 1.0}]
    expect: {action: block, rule: money}
"""


def found(folder: Path, text: str) -> list[tuple[str, int]]:
    path = folder / "trial.yaml"
    path.write_text(text)
    return [(problem.code, problem.line) for problem in examine(path, TODAY)]


def test_ten_mistakes_get_ten_located_messages(tmp_path: Path) -> None:
    problems = found(tmp_path, TEN_MISTAKES)
    assert problems == [
        ("RF201", 1),  # `default` is misspelt
        ("RF004", 3),  # a word for a number
        ("RF002", 5),  # a key nobody knows
        ("RF004", 9),  # http
        ("RF004", 12),  # a country by name
        ("RF302", 14),  # no test
        ("RF104", 16),  # an entity nobody finds
        ("RF004", 20),  # a score above 1
        ("RF004", 21),  # an action that is none
        ("RF302", 26),  # no test
        ("RF403", 26),  # covered by the rule above it
        ("RF303", 30),  # the default is not tested
        ("RF004", 31),  # a test of nothing
    ]


def test_every_message_has_place_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(TEN_MISTAKES)
    for message in lint(path):
        assert message.startswith(f"{path}:")
        assert "; " in message


def test_suggests_the_word_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(TEN_MISTAKES)
    text = "\n".join(lint(path))
    assert "did you mean default?" in text
    assert "did you mean PERSON?" in text


TEST = "tests: [{name: t, findings: [], expect: {action: allow}}]\n"
RULE = "  - {{id: {id}, why: because, when: {when}, action: {action}}}\n"


def rules(*given: tuple[str, str, str]) -> str:
    return "rules:\n" + "".join(RULE.format(id=i, when=w, action=a) for i, w, a in given)


ADVICE = {
    "RF201": ("", TEST),
    "RF301": ("default: allow\n", ""),
    "RF302": ("default: allow\n" + rules(("a", "{entities: [PERSON]}", "block")), TEST),
    "RF303": (
        "default: allow\n",
        "tests: [{name: t, findings: [], expect: {action: block}}]\n",
    ),
    "RF401": ("default: local_only\n" + rules(("a", "{entities: [VIN]}", "allow")), TEST),
    "RF402": (
        "default: allow\nrules: [{id: a, why: because, when: {always: true},"
        " action: local_only, message: hello}]\n",
        TEST,
    ),
    "RF403": (
        "default: allow\n"
        + rules(
            ("a", "{categories: [identity]}", "block"),
            ("b", "{entities: [PERSON], min_score: 0.9}", "local_only"),
        ),
        TEST,
    ),
    "RF501": (
        "default: allow\nvalid: {until: 2026-11-23}\n",
        TEST,
    ),
    "RF502": ("default: allow\nvalid: {until: 2026-12-01}\n", TEST),
    "RF203": ("default: allow\ninclude: [more]\n", TEST),
    "RF203 of mask": ("default: mask\ninclude: [more]\n", TEST),
    "RF403 of a twin": (
        "default: allow\n"
        + rules(("a", "{entities: [PERSON]}", "block"), ("b", "{entities: [PERSON]}", "block")),
        TEST,
    ),
    "RF403 of a rule for all": (
        "default: allow\n"
        + rules(("a", "{always: true}", "block"), ("b", "{entities: [PERSON]}", "local_only")),
        TEST,
    ),
    "RF404": (
        "default: allow\n"
        + rules(("a", "{all_of: [{entities: [BADGE], min_score: 0.8}]}", "block"))
        + "recognizers: [{entity: BADGE, category: identity, why: because, terms: [badge],"
        " score: 0.5, context: {words: [staff], boost: 0.2},"
        " examples: {match: [badge], no_match: [budget]}}]\n",
        TEST,
    ),
    "RF112": (
        "default: allow\nallow_list: {patterns:"
        " [{value: '(?=a)', why: because, owner: o, until: 2026-12-31}]}\n",
        TEST,
    ),
    "RF114": (
        "default: allow\nallow_list: {patterns:"
        " [{value: '(?s).+', why: because, owner: o, until: 2026-12-31}]}\n",
        TEST,
    ),
    "RF601": (
        "default: allow\ndestinations: [{id: a, provider: o, base_url: 'https://x.example',"
        " models: [m], region: eu, transfer: {recipient: r, country: IE, basis: b,"
        " retention: z, training: true}}]\n",
        TEST,
    ),
    "RF602": (
        "default: allow\ndestinations: [{id: a, provider: o, base_url: 'https://x.example',"
        " models: [m], region: eu, stream_usage: false,"
        " transfer: {recipient: r, country: IE, basis: b, retention: z}}]\n",
        TEST,
    ),
    "RF701": ("default: allow\nrecord: {retention_days: 182}\n", TEST),
    "RF702": ("default: allow\nrecord: {train_on_answers: true}\n", TEST),
}


@pytest.mark.parametrize("record", ["", "record: {train_on_answers: false}\n"])
def test_answers_that_are_not_kept_need_no_advice(record: str, tmp_path: Path) -> None:
    text = HEAD + "default: allow\n" + record + TEST
    assert "RF702" not in {code for code, _ in found(tmp_path, text)}


def test_half_a_year_of_records_needs_no_advice(tmp_path: Path) -> None:
    text = HEAD + "default: allow\nrecord: {retention_days: 183}\n" + TEST
    assert "RF701" not in {code for code, _ in found(tmp_path, text)}


@pytest.mark.parametrize("code", ADVICE)
def test_gives_advice(tmp_path: Path, code: str) -> None:
    write(tmp_path, "", "more")
    codes = {given for given, _ in found(tmp_path, HEAD + "".join(ADVICE[code]))}
    assert code.partition(" ")[0] in codes


def test_of_twins_only_one_is_covered(tmp_path: Path) -> None:
    text = HEAD + "".join(ADVICE["RF403 of a twin"])
    assert [code for code, _ in found(tmp_path, text)].count("RF403") == 1


def test_says_that_a_file_is_not_there(tmp_path: Path) -> None:
    [problem] = examine(tmp_path / "gone.yaml", TODAY)
    assert (problem.code, problem.line, problem.text) == ("RF001", 1, "No such file or directory")


def test_a_missing_key_is_told_where_its_owner_stands(tmp_path: Path) -> None:
    problems = found(tmp_path, HEAD + "default: allow\nexceptions:\n  - {id: e}\n")
    assert {line for code, line in problems if code == "RF003"} == {7}


def test_has_nothing_to_say_on_a_good_file(tmp_path: Path) -> None:
    text = "default: local_only\n" + TEST.replace("allow", "local_only")
    assert found(tmp_path, HEAD + text) == []


@pytest.mark.parametrize("raw", ["a: [", "- x\n", "a: &b 1\n", "include: [gone]\n"])
def test_says_where_a_file_cannot_be_read(tmp_path: Path, raw: str) -> None:
    path = write(tmp_path, raw)
    problems = examine(path, TODAY)
    assert [problem.severity for problem in problems] == [Severity.FAULT]
    assert problems[0].code == "RF001"


def test_goes_on_whatever_the_types_are(tmp_path: Path) -> None:
    text = "version: []\nrules: 3\ntests: {a: 1}\ndestinations: [3, null]\nvalid: 7\nscope: [1]\n"
    assert len(found(tmp_path, text)) >= 6


LOOSENING = """default: allow
public_figures: allow
on_local_failure: cloud
unrecorded_local: true
rules: [{id: r, why: because, when: {entities: [BADGE]}, action: block}]
allow_list:
  terms: [{value: Ada, why: known, owner: pr, until: 2027-12-31}]
  domains: [{value: ours.example, why: known, owner: pr, until: 2027-12-31}]
  patterns: [{value: 'E-\\d{4}', why: known, owner: pr, until: 2027-12-31}]
recognizers:
  - entity: BADGE
    category: identity
    why: because
    terms: [badge]
    score: 0.5
    languages: [de]
    examples: {match: [badge], no_match: [budget]}
exceptions:
  - id: e
    loosens: r
    to: allow
    scope: {apps: [a]}
    why: because
    ticket: T
    owner: o
    approved_by: p
    until: 2027-12-31
"""


def test_lists_every_construct_that_loosens(tmp_path: Path) -> None:
    places = [line for code, line in found(tmp_path, HEAD + LOOSENING) if code == "RF503"]
    assert places == [6, 7, 8, 11, 12, 13, 20, 23]
