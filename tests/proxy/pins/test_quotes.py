"""What a text is known by when it is quoted."""

from __future__ import annotations

import json
import string

from hypothesis import given
from hypothesis import strategies as st

from proxy.pins.quotes import (
    MAX_RUNS,
    RUN_WORDS,
    STRIDE,
    Growing,
    kept_run_traces,
    run_traces,
    whole_trace,
)

SAID = (
    "The second tunnel under the north wing closes before summer, since the roof above the old "
    "boiler has begun to sink, and two engineers measured eleven millimetres since winter."
)
WORDS = st.text(string.ascii_lowercase, min_size=4, max_size=9).map(lambda word: f"q{word}")


def is_known(said: str, quoted: str) -> bool:
    return not set(kept_run_traces([said])).isdisjoint(run_traces([quoted]))


@given(st.lists(WORDS, min_size=RUN_WORDS + STRIDE - 1, max_size=60, unique=True), st.data())
def test_any_run_of_telling_words_is_known_whatever_stands_around_it(
    words: list[str], data: st.DataObject
) -> None:
    size = RUN_WORDS + STRIDE - 1
    start = data.draw(st.integers(0, len(words) - size))
    before, after = (data.draw(st.text(max_size=20)) for _ in range(2))
    quoted = " ".join(words[start : start + size])
    assert is_known(" ".join(words), f"{before} {quoted} {after}")


@given(st.lists(WORDS, min_size=1, max_size=40, unique=True), st.lists(WORDS, max_size=40))
def test_what_shares_no_run_is_not_known(said: list[str], asked: list[str]) -> None:
    others = [word for word in asked if word not in said]
    assert not is_known(" ".join(said), " ".join(others))


def test_the_form_of_a_quotation_does_not_matter() -> None:
    words = SAID.split()
    for quoted in (
        SAID.upper(),
        "\n".join(f"> {word}" for word in words),
        "".join(f"**{word}** " for word in words),
        "\u200b".join(SAID),
        json.dumps({"a": json.dumps({"b": SAID.replace(", ", "\n")})}),
        json.dumps(SAID.replace("e", "é")).replace("\\u00e9", "e"),
    ):
        assert is_known(SAID, quoted)
    assert is_known(SAID.replace("e", "é"), json.dumps(SAID.replace("e", "é")))


def test_a_run_may_be_split_over_texts() -> None:
    pieces = [SAID[start : start + 20].strip() for start in range(0, len(SAID), 20)]
    words = SAID.split()
    parts = [" ".join(words[start : start + 3]) for start in range(0, len(words), 3)]
    kept = set(kept_run_traces([SAID]))
    assert kept & set(run_traces(parts))
    assert not kept & set(run_traces(pieces[:2]))


def test_what_everyone_says_tells_nothing() -> None:
    for phrase in (
        "I'm sorry, but I can't help you with that. Please let me know if you have questions.",
        "Thank you very much for your message, and please do not hesitate to contact us again.",
        "Vielen Dank für Ihre Nachricht, bitte wenden Sie sich bei weiteren Fragen gerne an uns.",
    ):
        assert list(run_traces([phrase])) == []


def test_what_is_known_to_be_harmless_is_not_kept() -> None:
    asked = " ".join(SAID.split()[:14])
    kept = kept_run_traces([SAID], frozenset(run_traces([asked])))
    assert kept
    assert set(kept).isdisjoint(run_traces([asked]))


def test_what_is_kept_of_a_long_answer_is_bounded() -> None:
    long = " ".join(f"number{index}" for index in range(20 * MAX_RUNS))
    assert len(kept_run_traces([long])) <= MAX_RUNS


def test_a_whole_text_is_known_in_any_case_and_a_run_is_no_whole_text() -> None:
    eight = "second tunnel north wing closes summer roof boiler"
    assert whole_trace(eight.upper() + "\n") == whole_trace(eight)
    assert whole_trace("Yes, thank you.") is None
    assert list(run_traces([eight])) == [f" {eight}"]


#: What text is made of where it is cut: words, blanks, escapes, marks that join or are not seen.
PIECE = st.one_of(
    WORDS.map(lambda word: f"{word} "),
    st.text("ae\\u0é\u0301n \n-_\u200b\u00ad\ufb01\u1112\u1161\u11ab\u00a8", max_size=6),
)
#: Pieces of an answer as they come: which choice says them, in which of its texts.
PIECES = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), PIECE), max_size=60)


@given(PIECES, st.lists(WORDS, max_size=12), st.data())
def test_what_grows_is_known_at_each_moment_as_if_it_ended_there(
    pieces: list[tuple[int, str, str]], before: list[str], data: st.DataObject
) -> None:
    earlier = [" ".join(before)]
    harmless = frozenset(run_traces([" ".join(before[:9])]))
    growing, known = Growing(earlier, harmless), set[str]()
    said: dict[int, dict[str, str]] = {0: {}, 1: {}}
    for choice, place, piece in pieces:
        growing.say((choice, ord(place)), place, piece)
        said[choice][place] = said[choice].get(place, "") + piece
        said[choice] = dict(sorted(said[choice].items()))
        if data.draw(st.booleans()):
            continue
        known |= set(growing.fresh())
        texts = [text for of_choice in said.values() for text in of_choice.values()]
        assert known >= set(kept_run_traces([*earlier, *texts], harmless))
        for text in texts:
            whole = whole_trace(text)
            assert whole is None or whole in known or known & set(run_traces([text]))
    texts = [text for of_choice in said.values() for text in of_choice.values()]
    assert growing.texts == tuple(texts)


def test_what_grows_long_is_known_everywhere_by_few_runs() -> None:
    words = [f"number{index}" for index in range(20 * MAX_RUNS)]
    growing, known = Growing((), frozenset()), set[str]()
    for start in range(0, len(words), 50):
        growing.say((0, 0), "a", " ".join(words[start : start + 50]) + " ")
        known |= set(growing.fresh())
        size = RUN_WORDS + -(-(start + 50) // MAX_RUNS) + STRIDE - 1
        for at in range(0, start + 50 - size, 97):
            assert known & set(run_traces([" ".join(words[at : at + size])]))
    assert len(known) < 4 * MAX_RUNS  # 400, and 400 for each e-fold length beyond


def test_what_was_told_is_not_told_again() -> None:
    growing = Growing((), frozenset())
    growing.say((0, 0), "a", SAID)
    assert set(growing.fresh()) == set(kept_run_traces([SAID]))
    assert growing.fresh() == []
    growing.say((0, 0), "a", " Nobody outside")
    assert len(growing.fresh()) == 1
