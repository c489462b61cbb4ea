"""YAML is read as it looks: no second meaning of a word, nothing hidden, parts in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import PolicyError
from proxy.policy.reader import MAX_BYTES, Document, parse_document, read_document

PATH = Path("trial.yaml")


def read(text: str) -> Document:
    return parse_document(PATH, text.encode())


def fault(raw: bytes) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_document(PATH, raw)
    return caught.value.public_message


WORDS: dict[str, Any] = {
    "no": "no",
    "Yes": "Yes",
    "on": "on",
    "OFF": "OFF",
    "y": "y",
    "True": "True",
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    "Null": "Null",
    "0": 0,
    "-7": -7,
    "+7": 7,
    "017": "017",
    "0o17": "0o17",
    "0x1f": "0x1f",
    "0b11": "0b11",
    "1_000": "1_000",
    "12:30": "12:30",
    "190:20:30": "190:20:30",
    "0.5": 0.5,
    ".5": ".5",
    "1.": "1.",
    "1e3": "1e3",
    "1.5e3": "1.5e3",
    ".inf": ".inf",
    ".nan": ".nan",
    "2026-12-31": "2026-12-31",
    "2026-12-31T10:00:00Z": "2026-12-31T10:00:00Z",
    "=": "=",
    "9" * 18: int("9" * 18),
    "9" * 19: "9" * 19,
    "'true'": "true",
    '"5"': "5",
}


@pytest.mark.parametrize("written", WORDS)
def test_reads_a_word_as_it_looks(written: str) -> None:
    value = read(f"key: {written}\n").members["key"]
    assert (value, type(value)) == (WORDS[written], type(WORDS[written]))


@pytest.mark.parametrize(
    ("raw", "place", "says"),
    [
        (b"a: 1\nb: 2\na: 3\n", "3:1", "'a' stands here twice"),
        (b"a:\n  b: 1\n  b: 2\n", "3:3", "'b' stands here twice"),
        (b'a: 1\n"a": 2\n', "2:1", "'a' stands here twice"),
        (b"a: 1\nb: &x 2\n", "2:4", "anchors and tags"),
        (b"a: *x\n", "1:4", "aliases"),
        (b"a: !!str 1\n", "1:4", "anchors and tags"),
        (b"a: !own 1\n", "1:4", "anchors and tags"),
        (b"a: ! 1\n", "1:4", "anchors and tags"),
        (b"a: !!python/name:os.system x\n", "1:4", "anchors and tags"),
        (b"&a a: 1\n", "1:1", "anchors and tags"),
        (b"? [a, b]\n: 1\n", "1:3", "a key must be a plain word"),
        (b"true: 1\n", "1:1", "a key must be a plain word"),
        (b"~: 1\n", "1:1", "a key must be a plain word"),
        (b"a: 1\n---\nb: 2\n", "2:1", "another document"),
        (b"a: [1\n", "2:1", ""),
        (b"a:\n\tb: 1\n", "2:1", ""),
        (b"a: @x\n", "1:4", ""),
    ],
)
def test_refuses_what_readers_disagree_on_and_says_where(raw: bytes, place: str, says: str) -> None:
    message = fault(raw)
    assert message.startswith(f"{PATH}:{place}: ")
    assert says in message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"# nothing\n",
        b"---\n...\n",
        b"- a\n",
        b"word\n",
        b"null\n",
        b"\xff\xfea\x00",
        b"a: \xc3\x28\n",
        b"\xef\xbb\xbfa: 1\n",
        b"a: \0\n",
        b"a: \x1b[31m\n",
        "a: \ud800\n".encode("utf-8", "surrogatepass"),
        b"a: " + b"[" * 5000 + b"]" * 5000,
        b"a: " + b"[" * 40 + b"]" * 40,
        b"a:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 40)),
    ],
    ids=[
        *("empty", "comment", "empty document", "list", "word", "null", "UTF-16", "bad UTF-8"),
        *("BOM", "NUL", "escape", "surrogate", "deep lists", "lists", "mappings"),
    ],
)
def test_refuses_what_is_no_policy(raw: bytes) -> None:
    assert fault(raw).startswith(f"{PATH}:1:") or "nested" in fault(raw)


def test_a_merge_key_is_a_plain_word() -> None:
    assert read("<<: {a: 1}\n").members == {"<<": {"a": 1}}


def test_says_nothing_of_the_cause_behind_a_fault() -> None:
    with pytest.raises(PolicyError) as caught:
        read("a: [a secret\n")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_refuses_more_than_a_megabyte_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: " + b"x" * (2 * MAX_BYTES))
    with pytest.raises(PolicyError, match="larger than"):
        read_document(path)


def test_takes_exactly_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: 1\n#" + b"x" * (MAX_BYTES - 7) + b"\n")
    assert read_document(path).members == {"a": 1}


def test_remembers_where_each_part_stands() -> None:
    document = read("# head\na: 1\nrules:\n  - id: x\n    when: {entities: [A, B]}\n  - id: y\n")
    places = [
        (("a",), (2, 1)),
        (("rules",), (3, 1)),
        (("rules", 0), (4, 5)),
        (("rules", 0, "when", "entities", 1), (5, 26)),
        (("rules", 1, "id"), (6, 5)),
    ]
    assert [(place, document.where(place)) for place, _ in places] == places


def test_an_unknown_part_stands_where_the_nearest_known_one_does() -> None:
    document = read("a: 1\nrules:\n  - id: x\n")
    assert document.where(("rules", 0, "when", "roles")) == (3, 5)
    assert document.where(("gone",)) == (1, 1)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        document = parse_document(PATH, raw)
    except PolicyError:
        return
    assert document.raw == raw
    assert isinstance(document.members, dict)
