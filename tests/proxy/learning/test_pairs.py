"""Pairs are read as they were written; a line that is none is named by its number alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.learning.pairs import Pair, read_messages, read_pairs

CANARY = "canary-7f3e1c"


@example("one\u2028two\x85three", "four\x1cfive", "system")
@given(st.text(), st.text(min_size=1).filter(str.strip), st.sampled_from(["system", "assistant"]))
def test_a_pair_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, question: str, answer: str, role: str
) -> None:
    pair = Pair("a", ((role, question), ("user", question)), answer, {"decision_id": "dec_1"})
    path = tmp_path_factory.mktemp("pairs") / "p.jsonl"
    # A line separator of Unicode is no end of a line of JSON.
    path.write_text(pair.line() * 2, encoding="utf-8", newline="")
    read = read_pairs(path)
    assert [(one.messages, one.answer) for one in read] == [(pair.messages, answer)] * 2


def test_a_row_to_calibrate_on_is_a_pair_in_the_form_that_calibration_asks(tmp_path: Path) -> None:
    row = {"id": "q", "question": "Sky?", "answers": ["blue", "azure"], "choices": ["red", "blue"]}
    (tmp_path / "p.jsonl").write_text(json.dumps({**row, "task": "Which colour?"}) + "\n\n")
    (pair,) = read_pairs(tmp_path / "p.jsonl")
    assert pair.messages == (("user", "Which colour?\nSky?\nChoose one: red; blue"),)
    assert pair.answer == "blue"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[" * 100_000,
        '{"id": "a", "messages": [], "answer": "x"}',
        '{"id": "a", "messages": [{"role": "user", "content": "q"}], "answer": " "}',
        '{"id": "a", "messages": [{"role": "assistant", "content": "q"}], "answer": "x"}',
        '{"id": "a", "question": "q", "answers": []}',
    ],
)
def test_what_is_no_pair_is_named_by_its_line_alone(tmp_path: Path, line: str) -> None:
    good = Pair("a", (("user", "q"),), "x").line()
    whole = good + line.replace("q", CANARY) + "\n" if line else ""
    (tmp_path / "p.jsonl").write_text(whole)
    with pytest.raises(SettingsError) as fault:
        read_pairs(tmp_path / "p.jsonl")
    assert ("p.jsonl:2" if line else "holds no pair") in str(fault.value)
    assert CANARY not in str(fault.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_pairs(tmp_path / "none")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "user", "content": "q", "name": "Ann"},
        {"role": "tool", "content": "q"},
        {"role": "user"},
        "q",
    ],
)
def test_what_a_pair_could_not_say_whole_is_none(message: object) -> None:
    user = {"role": "user", "content": "q"}
    assert read_messages([user]) == (("user", "q"),)
    assert read_messages([message, user]) is None
    assert read_messages([user, message]) is None
